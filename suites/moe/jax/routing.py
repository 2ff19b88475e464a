"""Which experts tokens go to, with which gates; row by row, so that a device can do it for its own rows.

B: rows  S: tokens of a row  E: experts  K: choices of a token
A choice is the number of an expert, or -1 for none.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def scored(logits_BSE: jax.Array, kind: str) -> jax.Array:
    """Softmax over all experts, or the sigmoid of each by itself."""
    if kind == "sigmoid":
        return 1 / (1 + jnp.exp(-logits_BSE))
    lifted_BSE = jnp.exp(logits_BSE - jax.lax.stop_gradient(logits_BSE.max(-1, keepdims=True)))
    return lifted_BSE / lifted_BSE.sum(-1, keepdims=True)


def chosen(ranked_BSE: jax.Array, top_k: int) -> jax.Array:
    """The K experts that rank highest, best first, and of equals the one with the lower number."""
    return jnp.argsort(-jax.lax.stop_gradient(ranked_BSE), axis=-1, stable=True)[..., :top_k]


def numbered(choices_BSK: jax.Array, experts: int) -> jax.Array:
    """How many of the same row come before each choice at its expert: all first choices, then all second ones."""
    rows, length, top_k = choices_BSK.shape
    queue_BN = choices_BSK.swapaxes(1, 2).reshape(rows, -1)
    asked_BNE = queue_BN[..., None] == jnp.arange(experts)
    before_BNE = jnp.cumsum(asked_BNE, axis=1) - asked_BNE
    before_BN = jnp.where(asked_BNE, before_BNE, 0).sum(-1)
    return before_BN.reshape(rows, top_k, length).swapaxes(1, 2)


def of_choices(values_BSE: jax.Array, choices_BSK: jax.Array) -> jax.Array:
    """[B, S, K]: what is said of the expert of every choice, 0 for -1."""
    found_BSK = jnp.take_along_axis(values_BSE, jnp.maximum(choices_BSK, 0), -1)
    return jnp.where(choices_BSK >= 0, found_BSK, 0)


def gated(scores_BSE: jax.Array, choices_BSK: jax.Array, normalized: bool) -> jax.Array:
    """[B, S, K]: the score of every choice, by the sum of its token's where they are normalized."""
    gates_BSK = of_choices(scores_BSE, choices_BSK)
    if not normalized:
        return gates_BSK
    sums_BS1 = gates_BSK.sum(-1, keepdims=True)
    return gates_BSK / jnp.where(sums_BS1 > 0, sums_BS1, 1)
