"""Linear, embedding, norms and sinusoidal positions.

B: rows  S: tokens of a row  D: hidden  F: output features  V: vocabulary
A new module holds NaN, so that a parameter that was never loaded makes every output NaN.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from reference.architecture import Architecture

Tensors = dict[str, jax.Array]


def unset(*shape: int) -> nnx.Param[Any]:
    return nnx.Param(jnp.full(shape, jnp.nan, dtype=jnp.float32))


class Linear(nnx.Module):
    """y = x w + b, with w_DF; the product and the sum are in the dtype of the operands."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        self.weight = unset(inputs, outputs)
        self.bias = unset(outputs) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x @ self.weight[...]
        return y if self.bias is None else y + self.bias[...]


class Embedding(nnx.Module):
    """Row `token` of w_VD."""

    def __init__(self, vocabulary: int, hidden: int) -> None:
        self.weight = unset(vocabulary, hidden)

    def __call__(self, tokens_BS: jax.Array) -> jax.Array:
        return self.weight[...][tokens_BS]


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + epsilon) * scale over the last dim, computed in `statistics`, returned in the dtype of x.

    Source: Zhang and Sennrich, Root Mean Square Layer Normalization, section 3.
    """

    def __init__(self, size: int, epsilon: float, statistics: str) -> None:
        self.scale = unset(size)
        self.epsilon = epsilon
        self.statistics = statistics

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(self.statistics)
        inverse_rms = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.epsilon)
        return (wide * inverse_rms * self.scale[...]).astype(x.dtype)


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last dim, computed in `statistics`.

    Source: Ba, Kiros and Hinton, Layer Normalization, section 3.
    """

    def __init__(self, size: int, epsilon: float, statistics: str) -> None:
        self.scale = unset(size)
        self.bias = unset(size)
        self.epsilon = epsilon
        self.statistics = statistics

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(self.statistics)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        inverse_deviation = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + self.epsilon)
        return (centred * inverse_deviation * self.scale[...] + self.bias[...]).astype(x.dtype)


def norm(model: Architecture, statistics: str) -> RMSNorm | LayerNorm:
    kind = RMSNorm if model.norm == "rms" else LayerNorm
    return kind(model.hidden, model.norm_epsilon, statistics)


def sinusoidal(length: int, hidden: int) -> np.ndarray:
    """Positions [S, D] in float64: sin in even columns, cos in odd ones; wavelengths from 2 pi to 10000 * 2 pi.

    Source: Vaswani et al., Attention Is All You Need, section 3.5.
    """
    column = np.arange(hidden)
    angle_SD = np.arange(length)[:, None] / 10000.0 ** (2 * (column // 2) / hidden)
    return np.where(column % 2 == 0, np.sin(angle_SD), np.cos(angle_SD))
