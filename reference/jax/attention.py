"""Self-attention with grouped key heads, rotary positions, padding, documents and per-head norms.

B: rows  S: query tokens  T: key tokens  D: hidden  H: query heads  K: key heads  E: head size
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from reference.architecture import Architecture
from reference.jax import fused_attention
from reference.jax.layers import Linear, RMSNorm, Tensors


def rotary(x_BSHE: jax.Array, base: float) -> jax.Array:
    """Rotate pairs (e, e + E/2) of token s by the angle s / base^(2e/E); angles in float64, rotation in the dtype of x.

    Source: Su et al., RoFormer, section 3.2.2, with the two halves of a head paired instead of neighbours.
    """
    length, size = x_BSHE.shape[1], x_BSHE.shape[3]
    angle_SE = np.arange(length)[:, None] / base ** (2 * np.arange(size // 2) / size)
    cos_SE, sin_SE = jnp.asarray(np.cos(angle_SE), x_BSHE.dtype), jnp.asarray(np.sin(angle_SE), x_BSHE.dtype)
    cos, sin = cos_SE[None, :, None, :], sin_SE[None, :, None, :]
    first, second = jnp.split(x_BSHE, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def visible(batch: Tensors, model: Architecture) -> jax.Array:
    """[B, S, T]: query i sees key j when key j is real, of the same document and, with `causal`, j <= i; always itself.

    With `documents` one begins wherever `document_starts` is 1; else a row is one document.
    """
    length = batch["attention_mask"].shape[1]
    seen_BST = (batch["attention_mask"] > 0)[:, None, :]
    if model.causal:
        seen_BST = seen_BST & jnp.tril(jnp.ones((length, length), dtype=bool))
    if model.documents:
        document_BS = jnp.cumsum(batch["document_starts"], axis=1)
        seen_BST = seen_BST & (document_BS[:, :, None] == document_BS[:, None, :])
    return seen_BST | jnp.eye(length, dtype=bool)


def attend(
    q_BSHE: jax.Array,
    k_BTKE: jax.Array,
    v_BTKE: jax.Array,
    visible_BST: jax.Array,
    statistics: str,
    fused_gradient: bool = False,
) -> jax.Array:
    """softmax(q k' / sqrt(E)) v over visible keys; query head h reads key head h // (H / K).

    The softmax is in `statistics`. With `fused_gradient` it is differentiated as in `fused_attention`.
    """
    group = q_BSHE.shape[2] // k_BTKE.shape[2]
    k_BTHE, v_BTHE = jnp.repeat(k_BTKE, group, axis=2), jnp.repeat(v_BTKE, group, axis=2)
    core = fused_attention.attend if fused_gradient else _attend
    return core(q_BSHE, k_BTHE, v_BTHE, visible_BST, statistics)


def _attend(
    q_BSHE: jax.Array, k_BTHE: jax.Array, v_BTHE: jax.Array, visible_BST: jax.Array, statistics: str
) -> jax.Array:
    scores_BHST = jnp.einsum("bshe,bthe->bhst", q_BSHE, k_BTHE).astype(statistics) / math.sqrt(q_BSHE.shape[3])
    scores_BHST = jnp.where(visible_BST[:, None], scores_BHST, -jnp.inf)
    weights_BHST = jax.nn.softmax(scores_BHST, axis=-1).astype(v_BTHE.dtype)
    return jnp.einsum("bhst,bthe->bshe", weights_BHST, v_BTHE)


class Attention(nnx.Module):
    """Projections, head norms, rotation, attention and the output projection: [B, S, D] -> [B, S, D]."""

    def __init__(self, model: Architecture, statistics: str) -> None:
        self.model = model
        self.statistics = statistics
        query, key = model.num_heads * model.head_size, model.num_kv_heads * model.head_size
        if model.fused_qkv:
            self.qkv = Linear(model.hidden, query + 2 * key, model.bias)
        else:
            self.query = Linear(model.hidden, query, model.bias)
            self.key = Linear(model.hidden, key, model.bias)
            self.value = Linear(model.hidden, key, model.bias)
        if model.head_norm:
            self.query_norm = RMSNorm(model.head_size, model.norm_epsilon, statistics)
            self.key_norm = RMSNorm(model.head_size, model.norm_epsilon, statistics)
        self.output = Linear(query, model.hidden, model.bias)

    def __call__(self, x_BSD: jax.Array, batch: Tensors) -> jax.Array:
        q_BSHE, k_BSKE, v_BSKE = self.heads(x_BSD)
        if self.model.head_norm:
            q_BSHE, k_BSKE = self.query_norm(q_BSHE), self.key_norm(k_BSKE)
        if self.model.positions == "rotary":
            q_BSHE, k_BSKE = rotary(q_BSHE, self.model.rotary_base), rotary(k_BSKE, self.model.rotary_base)
        seen_BST = visible(batch, self.model)
        mixed_BSHE = attend(q_BSHE, k_BSKE, v_BSKE, seen_BST, self.statistics, self.model.fused_gradient)
        return self.output(mixed_BSHE.reshape(*x_BSD.shape[:2], -1))

    def heads(self, x_BSD: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Query, key and value heads of every token."""
        if self.model.fused_qkv:
            query, key = self.model.num_heads * self.model.head_size, self.model.num_kv_heads * self.model.head_size
            q, k, v = jnp.split(self.qkv(x_BSD), [query, query + key], axis=-1)
        else:
            q, k, v = self.query(x_BSD), self.key(x_BSD), self.value(x_BSD)
        return self._split(q), self._split(k), self._split(v)

    def _split(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], -1, self.model.head_size)
