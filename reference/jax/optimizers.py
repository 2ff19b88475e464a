"""SGD with momentum, AdamW, Muon, LAMB, and clipping by global norm, on mappings from parameter name to array."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reference.architecture import is_router_bias, is_weight
from reference.jax import lamb, muon

Tensors = dict[str, jax.Array]
MOMENTS = ("first_moment", "second_moment")
SLOTS = {"sgd": ("momentum",), "adamw": MOMENTS, "muon": ("momentum",), "lamb": MOMENTS}


def total(terms: Iterable[jax.Array]) -> jax.Array:
    """The sum of arrays of one shape, first to last."""
    return reduce(add, terms)


def global_norm(gradients: Tensors) -> jax.Array:
    """The root of the sum of squares of all elements of all gradients."""
    return jnp.sqrt(total(jnp.sum(g * g) for g in gradients.values()))


def clip(gradients: Tensors, norm: jax.Array, clip_norm: float | None) -> Tensors:
    """Scale all gradients by min(1, clip_norm / norm); None leaves them alone.

    Source: Pascanu, Mikolov and Bengio, On the Difficulty of Training Recurrent Neural Networks, algorithm 1.
    """
    if clip_norm is None:
        return gradients
    factor = jnp.where(norm > clip_norm, clip_norm / norm, 1)
    return {name: g * factor for name, g in gradients.items()}


def slots(parameters: Tensors, recipe: Any) -> dict[str, Tensors]:
    """The optimizer's state before the first update: every slot zero, made by numpy, which compiles nothing."""
    return {
        slot: {name: jnp.asarray(np.zeros(p.shape, p.dtype)) for name, p in parameters.items()}
        for slot in SLOTS[recipe.optimizer]
    }


def update(
    parameters: Tensors, gradients: Tensors, state: dict[str, Tensors], count: jax.Array, recipe: Any
) -> tuple[Tensors, dict[str, Tensors]]:
    """One update with clipped gradients; `count` is the number of this update, from 1. -> (parameters, slots).

    The optimizer neither updates nor decays a router bias; its slots stay zero.
    """
    parameters, moved = dict(parameters), {slot: dict(values) for slot, values in state.items()}
    for name, p in parameters.items():
        if is_router_bias(name):
            continue
        parameters[name], new_slots = _rule(name, p, recipe)(
            p, gradients[name], [state[slot][name] for slot in state], count, _of_group(name, recipe)
        )
        for slot, value in zip(state, new_slots, strict=True):
            moved[slot][name] = value
    return parameters, moved


def _of_group(name: str, recipe: Any) -> Any:
    """The recipe of the group that a parameter is in: biases and scales may be one that is not decayed."""
    return recipe if recipe.decays == "all" or is_weight(name) else replace(recipe, weight_decay=0.0)


def _rule(name: str, p: jax.Array, recipe: Any) -> Callable[..., tuple[jax.Array, list[Any]]]:
    if recipe.optimizer == "muon" and muon.is_hidden(name, p):
        return muon.update
    if recipe.optimizer == "lamb":
        return lamb.update
    return _adamw if recipe.optimizer == "adamw" else _sgd


def _sgd(
    p: jax.Array, g: jax.Array, slots: list[jax.Array], count: jax.Array, recipe: Any
) -> tuple[jax.Array, list[Any]]:
    """v <- momentum v + g + decay p; p <- p - rate v."""
    v = recipe.momentum * slots[0] + (g + recipe.weight_decay * p)
    return p - recipe.learning_rate * v, [v]


def _adamw(
    p: jax.Array, g: jax.Array, slots: list[jax.Array], count: jax.Array, recipe: Any
) -> tuple[jax.Array, list[Any]]:
    """Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, algorithm 2, with a schedule of `rate`."""
    first, second = recipe.betas
    m = first * slots[0] + (1 - first) * g
    v = second * slots[1] + (1 - second) * g * g
    steps = count.astype(p.dtype)
    corrected_m, corrected_v = m / (1 - first**steps), v / (1 - second**steps)
    direction = corrected_m / (jnp.sqrt(corrected_v) + recipe.epsilon) + recipe.weight_decay * p
    return p - recipe.learning_rate * direction, [m, v]
