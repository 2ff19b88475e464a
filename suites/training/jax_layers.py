"""The arithmetic of a decoder that knows no mesh: norms, rotary positions, causal attention, sinusoidal positions.

B: rows  S: query tokens  T: key tokens  H: heads  E: head size  D: hidden
Statistics (norms, softmax) are computed in the dtype `wide` and returned in the dtype of the input.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np


def rms_norm(x: jax.Array, gain: jax.Array, epsilon: float, wide: str) -> jax.Array:
    """x / sqrt(mean(x^2) + epsilon) * gain over the last dim (Zhang and Sennrich, 2019, section 3)."""
    y = x.astype(wide)
    scale = jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + epsilon)
    return (y * scale * gain).astype(x.dtype)


def layer_norm(x: jax.Array, gain: jax.Array, bias: jax.Array, epsilon: float, wide: str) -> jax.Array:
    """(x - mean) / sqrt(variance + epsilon) * gain + bias over the last dim (Ba, Kiros and Hinton, 2016, section 3)."""
    y = x.astype(wide)
    y = y - jnp.mean(y, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + epsilon)
    return (y * scale * gain + bias).astype(x.dtype)


def rotary(x_BSHE: jax.Array, base: float) -> jax.Array:
    """Rotate pairs (e, e + E/2) of token s by the angle s / base^(2e/E) (Su et al., RoFormer, section 3.2.2)."""
    length, size = x_BSHE.shape[1], x_BSHE.shape[3]
    angle_S1E = np.arange(length)[:, None, None] * base ** (-2 * np.arange(size // 2) / size)
    cos, sin = jnp.asarray(np.cos(angle_S1E), x_BSHE.dtype), jnp.asarray(np.sin(angle_S1E), x_BSHE.dtype)
    first, second = jnp.split(x_BSHE, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attend(q_BSHE: jax.Array, k_BTHE: jax.Array, v_BTHE: jax.Array, padding_BT: jax.Array, wide: str) -> jax.Array:
    """softmax(q k' / sqrt(E)) v: query i sees key j when j <= i and j is no padding, and always itself."""
    length = padding_BT.shape[1]
    causal_BST = np.tri(length, dtype=bool) & (padding_BT > 0)[:, None, :]
    visible_BHST = jnp.logical_or(causal_BST, np.eye(length, dtype=bool))[:, None]
    scores_BHST = jnp.einsum("bshe,bthe->bhst", q_BSHE, k_BTHE).astype(wide) / math.sqrt(q_BSHE.shape[3])
    weights_BHST = jax.nn.softmax(jnp.where(visible_BHST, scores_BHST, -jnp.inf), axis=-1)
    return jnp.einsum("bhst,bthe->bshe", weights_BHST.astype(v_BTHE.dtype), v_BTHE)


def sinusoidal(length: int, hidden: int) -> np.ndarray:
    """Positions [S, D] in float64, sin in even and cos in odd columns (Vaswani et al., section 3.5)."""
    column_D = np.arange(hidden)
    angle_SD = np.arange(length)[:, None] * 10000.0 ** (-2 * (column_D // 2) / hidden)
    return np.where(column_D % 2 == 0, np.sin(angle_SD), np.cos(angle_SD))
