"""The local arithmetic of a decoder: norms, rotary positions, causal attention, sinusoidal positions.

B: rows  S: query tokens  T: key tokens  H: heads  E: head size  D: hidden
Statistics (norms, softmax) are computed in the dtype `wide` and returned in the dtype of the input.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

Positions = jax.Array | np.ndarray  # canonical index in its row of every token at hand
Documents = tuple[jax.Array, jax.Array]  # number of the document of every query [B, S] and of every key [B, T]


def rms_norm(x: jax.Array, scale: jax.Array, epsilon: float, wide: str) -> jax.Array:
    """x / sqrt(mean(x^2) + epsilon) * scale over the last dim (Zhang and Sennrich, 2019, section 3)."""
    y = x.astype(wide)
    inverse_rms = jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + epsilon)
    return (y * inverse_rms * scale).astype(x.dtype)


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, wide: str) -> jax.Array:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last dim (Ba et al., 2016, section 3)."""
    y = x.astype(wide)
    y = y - jnp.mean(y, axis=-1, keepdims=True)
    inverse_deviation = jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + epsilon)
    return (y * inverse_deviation * scale + bias).astype(x.dtype)


def rotary(x_BSHE: jax.Array, positions_S: Positions, base: float) -> jax.Array:
    """Rotate pairs (e, e + E/2) of a token by the angle position / base^(2e/E) (Su et al., RoFormer, section 3.2.2)."""
    size = x_BSHE.shape[3]
    angle_S1E = jnp.asarray(positions_S, float)[:, None, None] * base ** (-2 * np.arange(size // 2) / size)
    cos, sin = jnp.cos(angle_S1E).astype(x_BSHE.dtype), jnp.sin(angle_S1E).astype(x_BSHE.dtype)
    first, second = jnp.split(x_BSHE, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def visible(
    query_S: Positions, key_T: Positions, attention_mask_BT: jax.Array, documents: Documents | None, causal: bool
) -> jax.Array:
    """[B, S, T]: a query sees itself, and every key that is no padding, in its document and (causal) not later."""
    query_S1, key_1T = jnp.asarray(query_S)[:, None], jnp.asarray(key_T)[None, :]
    seen_BST = jnp.broadcast_to((attention_mask_BT > 0)[:, None, :], (len(attention_mask_BT), len(query_S), len(key_T)))
    if causal:
        seen_BST = seen_BST & (key_1T <= query_S1)
    if documents is not None:
        seen_BST = seen_BST & (documents[0][:, :, None] == documents[1][:, None, :])
    return seen_BST | (key_1T == query_S1)


def attend(q_BSHE: jax.Array, k_BTHE: jax.Array, v_BTHE: jax.Array, visible_BST: jax.Array, wide: str) -> jax.Array:
    """softmax(q k' / sqrt(E)) v over visible keys."""
    visible_BHST = visible_BST[:, None]
    scores_BHST = jnp.einsum("bshe,bthe->bhst", q_BSHE, k_BTHE).astype(wide) / math.sqrt(q_BSHE.shape[3])
    weights_BHST = jax.nn.softmax(jnp.where(visible_BHST, scores_BHST, -jnp.inf), axis=-1)
    return jnp.einsum("bhst,bthe->bshe", weights_BHST.astype(v_BTHE.dtype), v_BTHE)


def sinusoidal(positions_S: Positions, hidden: int) -> jax.Array:
    """[S, D], sin in even and cos in odd columns (Vaswani et al., section 3.5)."""
    column_D = np.arange(hidden)
    angle_SD = jnp.asarray(positions_S, float)[:, None] * 10000.0 ** (-2 * (column_D // 2) / hidden)
    return jnp.where(column_D % 2 == 0, jnp.sin(angle_SD), jnp.cos(angle_SD))
