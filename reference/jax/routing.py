"""Routing: which experts a token goes to, with which gates, and the auxiliary losses that balance their load.

B: rows  S: tokens of a row  E: experts  K: choices of a token
A choice is the number of an expert, or -1 for none. Everything here is in `statistics`, and `real_BS` is 1 for a token
and 0 for padding.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from reference.architecture import Architecture


def scores(logits_BSE: jax.Array, kind: str) -> jax.Array:
    """Softmax over experts, or the sigmoid of each logit by itself.

    Sources: Shazeer et al., Outrageously Large Neural Networks, section 2.1; DeepSeek-V3, section 2.1.2.
    """
    return jax.nn.softmax(logits_BSE, axis=-1) if kind == "softmax" else jax.nn.sigmoid(logits_BSE)


def ranked(scores_BSE: jax.Array, bias_E: jax.Array | None) -> jax.Array:
    """The values that top-k selects by: the scores, plus the router bias where there is one.

    Law: the choice has no gradient, neither for the scores nor for the bias.
    """
    return jax.lax.stop_gradient(scores_BSE if bias_E is None else scores_BSE + bias_E)


def best(ranked_BSE: jax.Array, top_k: int) -> jax.Array:
    """The K experts that rank highest, best first; of equal ones the lower number wins."""
    return jax.lax.top_k(ranked_BSE, top_k)[1]


def of_choices(values_BSE: jax.Array, choices_BSK: jax.Array) -> jax.Array:
    """[B, S, K]: the value of the expert of each choice, 0 for none."""
    return jnp.take_along_axis(values_BSE, jnp.maximum(choices_BSK, 0), axis=-1) * (choices_BSK >= 0)


def spread(values_BSK: jax.Array, choices_BSK: jax.Array, experts: int) -> jax.Array:
    """[B, S, E]: the value of the choice that fell on an expert, 0 where none did."""
    return jnp.sum(values_BSK[..., None] * jax.nn.one_hot(choices_BSK, experts, dtype=values_BSK.dtype), axis=2)


def admitted(choices_BSK: jax.Array, places: int, experts: int) -> jax.Array:
    """The choices within the capacity, -1 for those that are dropped: an expert takes `places` tokens of a row.

    Law: first choices come before second ones, and so on; among equals the earlier token; -1 takes no place.
    """
    rows, length, top_k = choices_BSK.shape
    queue_BT = choices_BSK.swapaxes(1, 2).reshape(rows, top_k * length)
    asked_BTE = jax.nn.one_hot(queue_BT, experts, dtype=jnp.int32)
    number_BT = jnp.sum(asked_BTE * jnp.cumsum(asked_BTE, axis=1), axis=-1)  # 1 for the first that asks an expert
    found_BT = jnp.where(number_BT <= places, queue_BT, -1)
    return found_BT.reshape(rows, top_k, length).swapaxes(1, 2)


def gates(scores_BSE: jax.Array, choices_BSK: jax.Array, normalized: bool) -> jax.Array:
    """[B, S, K]: the score of each choice, 0 for none; normalized: by their sum over the choices of the token.

    Law: dropped choices count in that sum, so that a gate does not depend on the other tokens of the row.
    """
    gates_BSK = of_choices(scores_BSE, choices_BSK)
    if not normalized:
        return gates_BSK
    sum_BS1 = jnp.sum(gates_BSK, axis=-1, keepdims=True)
    return gates_BSK / jnp.where(sum_BS1 == 0, 1, sum_BS1)


def balance(asked_BSE: jax.Array, scores_BSE: jax.Array, real_BS: jax.Array, model: Architecture) -> jax.Array:
    """E * sum over experts of f_E P_E; it is 1 where all experts have the same load.

    f_E is the share of expert E in the choices of real tokens, before any finds no place, and P_E the mean over them of
    its share in the scores. Scope `row`: of every row by itself, averaged over rows with a real token.
    Source: Fedus et al., Switch Transformers, section 2.2; with K choices f_E is divided by K, so that it sums to 1.
    """
    shares_BSE = scores_BSE / jnp.sum(scores_BSE, axis=-1, keepdims=True) if model.scores == "sigmoid" else scores_BSE
    axes = (0, 1) if model.balance_scope == "batch" else (1,)
    tokens = jnp.sum(real_BS, axis=axes)
    counted = jnp.maximum(tokens, 1)[..., None]
    f = jnp.sum(asked_BSE, axis=axes) / (counted * model.top_k)
    p = jnp.sum(real_BS[..., None] * shares_BSE, axis=axes) / counted
    terms = model.experts * jnp.sum(f * p, axis=-1)
    return jnp.sum(terms) / jnp.maximum(jnp.sum(tokens > 0), 1)


def router_z(logits_BSE: jax.Array, real_BS: jax.Array) -> jax.Array:
    """Mean over real tokens of logsumexp(logits)^2. Source: Zoph et al., ST-MoE, equation 5."""
    lse_BS = jax.nn.logsumexp(logits_BSE, axis=-1)
    return jnp.sum(real_BS * lse_BS * lse_BS) / jnp.maximum(jnp.sum(real_BS), 1)
