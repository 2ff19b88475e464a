"""Optimizers on named arrays. SGD and AdamW are elementwise and work on blocks as on whole arrays; Muon and LAMB need
the whole array.

I, O: input and output features
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from conformance.contract.contract import Recipe
from reference.architecture import is_router_bias

Named = dict[str, jax.Array]
Slots = dict[str, Named]


class ParameterLayout(Protocol):
    """What the optimizer asks of the layout of the state whose blocks it updates."""

    def weight_decay(self, name: str) -> Any:
        """Of a parameter, or of each element of a block that holds several."""

    def orthogonal(self, name: str, u: jax.Array) -> jax.Array:
        """The block at hand of the orthogonalised matrix, every block of which must be known for that."""

    def tensor_norms(self, values: Named) -> Named:
        """Blocks by parameter -> the norm of each whole tensor, the same on all devices."""


def apply(
    recipe: Recipe, parameters: Named, optimizer: Slots, gradients: Named, count: jax.Array, layout: ParameterLayout
) -> tuple[Named, Slots]:
    """One update with (already clipped) gradients; `count` is the number of this update, the first one being 1."""
    if recipe.optimizer == "lamb":
        return lamb(recipe, parameters, optimizer, gradients, count, layout)
    new_parameters: Named = {}
    new_slots: Slots = {slot: {} for slot in optimizer}
    for name, gradient in gradients.items():
        old = {slot: optimizer[slot][name] for slot in optimizer}
        new_parameters[name], new = _moved(recipe, name, parameters[name], old, gradient, count, layout)
        for slot, value in new.items():
            new_slots[slot][name] = value
    return new_parameters, new_slots


def _moved(
    recipe: Recipe, name: str, p: jax.Array, old: Named, g: jax.Array, count: jax.Array, layout: ParameterLayout
) -> tuple[jax.Array, Named]:
    """One parameter and its slots after the update. A router bias is left to the load of the experts."""
    if is_router_bias(name):
        return p, old
    recipe = replace(recipe, weight_decay=layout.weight_decay(name))
    if recipe.optimizer == "muon" and is_hidden(name, tuple(g.shape)):
        return muon(recipe, p, old, g, partial(layout.orthogonal, name))
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
    """Decoupled weight decay (Loshchilov and Hutter, algorithm 2): p = p - learning_rate (step of Adam)."""
    direction, moments = adam(recipe, p, old, g, count)
    return p - recipe.learning_rate * direction, moments


def adam(
    recipe: Recipe, p: jax.Array, old: Mapping[str, jax.Array], g: jax.Array, count: jax.Array
) -> tuple[jax.Array, Named]:
    """(first / (sqrt(second) + epsilon) + weight_decay p, moments), moments corrected for their start at zero."""
    beta1, beta2 = recipe.betas
    first = beta1 * old["first_moment"] + (1 - beta1) * g
    second = beta2 * old["second_moment"] + (1 - beta2) * g * g
    steps = count.astype(p.dtype)
    unbiased_first, unbiased_second = first / (1 - beta1**steps), second / (1 - beta2**steps)
    direction = unbiased_first / (jnp.sqrt(unbiased_second) + recipe.epsilon) + recipe.weight_decay * p
    return direction, {"first_moment": first, "second_moment": second}


def lamb(
    recipe: Recipe, parameters: Named, optimizer: Slots, gradients: Named, count: jax.Array, layout: ParameterLayout
) -> tuple[Named, Slots]:
    """p = p - learning_rate |p| / |u| u, u being the step of Adam; the ratio is 1 where a norm is zero.

    Source: You et al., Large Batch Optimization for Deep Learning, algorithm 2.
    """
    directions: Named = {}
    moments: Slots = {slot: {} for slot in optimizer}
    for name, gradient in gradients.items():
        own = replace(recipe, weight_decay=layout.weight_decay(name))
        old = {slot: optimizer[slot][name] for slot in optimizer}
        directions[name], new = adam(own, parameters[name], old, gradient, count)
        for slot, value in new.items():
            moments[slot][name] = value
    lengths, steps = layout.tensor_norms(parameters), layout.tensor_norms(directions)
    moved = {}
    for name, u in directions.items():
        length, step = lengths[name], steps[name]
        ratio = jnp.where((length == 0) | (step == 0), 1, length / jnp.where(step == 0, 1, step))
        moved[name] = parameters[name] - recipe.learning_rate * ratio * u
    return moved, moments


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

    It is done on the wide form of the matrix, after division by its Frobenius norm: it needs the whole matrix.
    """
    rows, columns = u_IO.shape
    x = (u_IO.T if rows > columns else u_IO) / (jnp.sqrt(jnp.sum(u_IO * u_IO)) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * (gram @ gram) - 4.7750 * gram) @ x
    return math.sqrt(max(1.0, columns / rows)) * (x.T if rows > columns else x)
