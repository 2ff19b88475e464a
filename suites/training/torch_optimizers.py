"""Optimizers on named tensors. SGD and AdamW see a block or a whole tensor and cannot tell which; Muon must know.

I, O: input and output features
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from conformance.contract import Recipe
from reference.architecture import is_router_bias

Named = dict[str, Tensor]
Slots = dict[str, Named]
Orthogonal = Callable[[str, Tensor], Tensor]  # (name, this rank's block) -> this rank's block


def apply(
    recipe: Recipe,
    parameters: Named,
    optimizer: Slots,
    gradients: Named,
    count: int,
    orthogonal: Orthogonal,
) -> tuple[Named, Slots]:
    """One update with (already clipped) gradients, out of place; `count` is its number, the first one being 1."""
    new_parameters: Named = {}
    new_slots: Slots = {slot: {} for slot in optimizer}
    for name, gradient in gradients.items():
        old = {slot: optimizer[slot][name] for slot in optimizer}
        new_parameters[name], new = _moved(recipe, name, parameters[name], old, gradient, count, orthogonal)
        for slot, value in new.items():
            new_slots[slot][name] = value
    return new_parameters, new_slots


def _moved(
    recipe: Recipe, name: str, p: Tensor, old: Named, g: Tensor, count: int, orthogonal: Orthogonal
) -> tuple[Tensor, Named]:
    """One parameter and its slots after the update. A router bias stays: the load of the experts moves it."""
    if is_router_bias(name):
        return p, old
    if recipe.optimizer == "muon" and is_hidden(name, tuple(g.shape)):
        return muon(recipe, p, old, g, partial(orthogonal, name))
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

    It is done on the wide form of the matrix, after division by its Frobenius norm: no part of it will do.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = u_IO.shape[0] > u_IO.shape[1]
    x = (u_IO.T if tall else u_IO) / (torch.linalg.matrix_norm(u_IO) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return math.sqrt(max(1.0, u_IO.shape[1] / u_IO.shape[0])) * (x.T if tall else x)


def adamw(recipe: Recipe, p: Tensor, old: Named, g: Tensor, count: int) -> tuple[Tensor, Named]:
    """Loshchilov and Hutter, Decoupled Weight Decay Regularization, algorithm 2, with bias correction."""
    beta1, beta2 = recipe.betas
    first = beta1 * old["first_moment"] + (1 - beta1) * g
    second = beta2 * old["second_moment"] + (1 - beta2) * g * g
    direction = (first / (1 - beta1**count)) / ((second / (1 - beta2**count)).sqrt() + recipe.epsilon)
    new = p - recipe.learning_rate * (direction + recipe.weight_decay * p)
    return new, {"first_moment": first, "second_moment": second}
