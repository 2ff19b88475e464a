"""Optimizers on named tensors. SGD and AdamW are elementwise and work on blocks as on whole tensors; Muon and LAMB need
the whole tensor.

I, O: input and output features
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from conformance.contract.contract import Recipe
from reference.architecture import is_router_bias

Named = dict[str, Tensor]
Slots = dict[str, Named]


class ParameterLayout(Protocol):
    """What the optimizer asks of the layout of the state whose blocks it updates."""

    def weight_decay(self, name: str) -> Any:
        """Of a parameter, or of each element of a block that holds several."""

    def orthogonal(self, name: str, u: Tensor) -> Tensor:
        """The block at hand of the orthogonalised matrix, every block of which must be known for that."""

    def tensor_norms(self, values: Named) -> Named:
        """Blocks by parameter -> the norm of each whole tensor, the same on all devices."""


def apply(
    recipe: Recipe,
    parameters: Named,
    optimizer: Slots,
    gradients: Named,
    count: int,
    layout: ParameterLayout,
) -> tuple[Named, Slots]:
    """One update with (already clipped) gradients, out of place; `count` is its number, the first one being 1."""
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
    recipe: Recipe, name: str, p: Tensor, old: Named, g: Tensor, count: int, layout: ParameterLayout
) -> tuple[Tensor, Named]:
    """One parameter and its slots after the update. A router bias is left to the load of the experts."""
    if is_router_bias(name):
        return p, old
    recipe = replace(recipe, weight_decay=layout.weight_decay(name))
    if recipe.optimizer == "muon" and is_hidden(name, tuple(g.shape)):
        return muon(recipe, p, old, g, partial(layout.orthogonal, name))
    if recipe.optimizer == "adamw":
        return adamw(recipe, p, old, g, count)
    return sgd(recipe, p, old, g)


def sgd(recipe: Recipe, p: Tensor, old: Named, g: Tensor) -> tuple[Tensor, Named]:
    """v = momentum v + (g + weight_decay p); p = p - learning_rate v."""
    momentum = recipe.momentum * old["momentum"] + (g + recipe.weight_decay * p)
    return p - recipe.learning_rate * momentum, {"momentum": momentum}


def is_hidden(name: str, shape: tuple[int, ...]) -> bool:
    """Whether Muon makes a parameter orthogonal: the matrices of hidden layers. All others follow SGD."""
    return len(shape) == 2 and name not in ("embedding.weight", "head.weight")


def muon(
    recipe: Recipe, p: Tensor, old: Named, g: Tensor, orthogonal: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Named]:
    """v = momentum v + g; o = orthogonal(g + momentum v); p = p - learning_rate (o + weight_decay p).

    `orthogonal` makes a matrix orthogonal: it takes and returns this rank's block of it.
    Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024).
    """
    momentum = recipe.momentum * old["momentum"] + g
    direction = orthogonal(g + recipe.momentum * momentum)
    return p - recipe.learning_rate * (direction + recipe.weight_decay * p), {"momentum": momentum}


def newton_schulz(u_IO: Tensor) -> Tensor:
    """sqrt(max(1, O / I)) U f(S) V' for u = U S V': five steps of an odd polynomial bring singular values near 1.

    It is done on the wide form of the matrix, after division by its Frobenius norm: it needs the whole matrix.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = u_IO.shape[0] > u_IO.shape[1]
    x = (u_IO.T if tall else u_IO) / (torch.linalg.matrix_norm(u_IO) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return math.sqrt(max(1.0, u_IO.shape[1] / u_IO.shape[0])) * (x.T if tall else x)


def adamw(recipe: Recipe, p: Tensor, old: Named, g: Tensor, count: int) -> tuple[Tensor, Named]:
    """p = p - learning_rate (step of Adam): decay beside the moments (Loshchilov and Hutter, algorithm 2)."""
    direction, moments = adam(recipe, p, old, g, count)
    return p - recipe.learning_rate * direction, moments


def adam(recipe: Recipe, p: Tensor, old: Named, g: Tensor, count: int) -> tuple[Tensor, Named]:
    """(first / (sqrt(second) + epsilon) + weight_decay p, moments), moments corrected for their start at zero."""
    beta1, beta2 = recipe.betas
    first = beta1 * old["first_moment"] + (1 - beta1) * g
    second = beta2 * old["second_moment"] + (1 - beta2) * g * g
    direction = (first / (1 - beta1**count)) / ((second / (1 - beta2**count)).sqrt() + recipe.epsilon)
    return direction + recipe.weight_decay * p, {"first_moment": first, "second_moment": second}


def lamb(
    recipe: Recipe, parameters: Named, optimizer: Slots, gradients: Named, count: int, layout: ParameterLayout
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
        both = (lengths[name] > 0) & (steps[name] > 0)
        ratio = torch.where(both, lengths[name] / torch.where(both, steps[name], 1), 1)
        moved[name] = parameters[name] - recipe.learning_rate * ratio * u
    return moved, moments
