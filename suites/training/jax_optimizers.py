"""Elementwise optimizers on named arrays: they see a local block or a whole array and cannot tell which."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from conformance.contract import Recipe

Named = dict[str, jax.Array]
Slots = dict[str, Named]


def slots(recipe: Recipe) -> tuple[str, ...]:
    """The optimizer slots that every parameter has, each of the parameter's shape and starting at zero."""
    return ("momentum",) if recipe.optimizer == "sgd" else ("first_moment", "second_moment")


def apply(
    recipe: Recipe, parameters: Named, optimizer: Slots, gradients: Named, count: jax.Array
) -> tuple[Named, Slots]:
    """One update with (already clipped) gradients; `count` is the number of this update, the first one being 1."""
    new_parameters: Named = {}
    new_slots: Slots = {slot: {} for slot in optimizer}
    for name, gradient in gradients.items():
        old = {slot: optimizer[slot][name] for slot in optimizer}
        rule = sgd if recipe.optimizer == "sgd" else adamw
        new_parameters[name], new = rule(recipe, parameters[name], old, gradient, count)
        for slot, value in new.items():
            new_slots[slot][name] = value
    return new_parameters, new_slots


def sgd(
    recipe: Recipe, p: jax.Array, old: Mapping[str, jax.Array], g: jax.Array, count: jax.Array
) -> tuple[jax.Array, Named]:
    """v = momentum v + (g + weight_decay p); p = p - learning_rate v."""
    momentum = recipe.momentum * old["momentum"] + (g + recipe.weight_decay * p)
    return p - recipe.learning_rate * momentum, {"momentum": momentum}


def adamw(
    recipe: Recipe, p: jax.Array, old: Mapping[str, jax.Array], g: jax.Array, count: jax.Array
) -> tuple[jax.Array, Named]:
    """Decoupled weight decay (Loshchilov and Hutter, algorithm 2), moments corrected for their start at zero."""
    beta1, beta2 = recipe.betas
    first = beta1 * old["first_moment"] + (1 - beta1) * g
    second = beta2 * old["second_moment"] + (1 - beta2) * g * g
    steps = count.astype(p.dtype)
    unbiased_first, unbiased_second = first / (1 - beta1**steps), second / (1 - beta2**steps)
    direction = unbiased_first / (jnp.sqrt(unbiased_second) + recipe.epsilon) + recipe.weight_decay * p
    return p - recipe.learning_rate * direction, {"first_moment": first, "second_moment": second}
