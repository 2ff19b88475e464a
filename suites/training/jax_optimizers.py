"""Optimizers on named arrays. SGD and AdamW see a block or a whole array and cannot tell which; Muon must know.

I, O: input and output features
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp

from conformance.contract import Recipe
from reference.architecture import is_router_bias

Named = dict[str, jax.Array]
Slots = dict[str, Named]
Orthogonal = Callable[[str, jax.Array], jax.Array]  # (name, block at hand) -> block at hand


def apply(
    recipe: Recipe, parameters: Named, optimizer: Slots, gradients: Named, count: jax.Array, orthogonal: Orthogonal
) -> tuple[Named, Slots]:
    """One update with (already clipped) gradients; `count` is the number of this update, the first one being 1."""
    new_parameters: Named = {}
    new_slots: Slots = {slot: {} for slot in optimizer}
    for name, gradient in gradients.items():
        old = {slot: optimizer[slot][name] for slot in optimizer}
        new_parameters[name], new = _moved(recipe, name, parameters[name], old, gradient, count, orthogonal)
        for slot, value in new.items():
            new_slots[slot][name] = value
    return new_parameters, new_slots


def _moved(
    recipe: Recipe, name: str, p: jax.Array, old: Named, g: jax.Array, count: jax.Array, orthogonal: Orthogonal
) -> tuple[jax.Array, Named]:
    """One parameter and its slots after the update. A router bias stays: the load of the experts moves it."""
    if is_router_bias(name):
        return p, old
    if recipe.optimizer == "muon" and is_hidden(name, tuple(g.shape)):
        return muon(recipe, p, old, g, partial(orthogonal, name))
    if recipe.optimizer == "adamw":
        return adamw(recipe, p, old, g, count)
    return sgd(recipe, p, old, g)


def sgd(recipe: Recipe, p: jax.Array, old: Mapping[str, jax.Array], g: jax.Array) -> tuple[jax.Array, Named]:
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


def is_hidden(name: str, shape: tuple[int, ...]) -> bool:
    """Whether Muon makes a parameter orthogonal: the matrices of hidden layers. All others follow SGD."""
    return len(shape) == 2 and name not in ("embedding.weight", "head.weight")


def muon(
    recipe: Recipe,
    p: jax.Array,
    old: Mapping[str, jax.Array],
    g: jax.Array,
    orthogonal: Callable[[jax.Array], jax.Array],
) -> tuple[jax.Array, Named]:
    """v = momentum v + g; p = p - learning_rate (orthogonal(g + momentum v) + weight_decay p).

    `orthogonal` makes a matrix orthogonal: it takes and returns the block of it that is at hand.
    Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024).
    """
    momentum = recipe.momentum * old["momentum"] + g
    direction = orthogonal(g + recipe.momentum * momentum)
    return p - recipe.learning_rate * (direction + recipe.weight_decay * p), {"momentum": momentum}


def newton_schulz(u_IO: jax.Array) -> jax.Array:
    """sqrt(max(1, O / I)) U f(S) V' for u = U S V': five steps of an odd polynomial bring singular values near 1.

    It is done on the wide form of the matrix, after division by its Frobenius norm: no part of it will do.
    """
    rows, columns = u_IO.shape
    x = (u_IO.T if rows > columns else u_IO) / (jnp.sqrt(jnp.sum(u_IO * u_IO)) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * (gram @ gram) - 4.7750 * gram) @ x
    return math.sqrt(max(1.0, columns / rows)) * (x.T if rows > columns else x)
