"""Elementwise optimizers on named tensors: they see a local block or a whole tensor and cannot tell which."""

from __future__ import annotations

from torch import Tensor

from conformance.contract import Recipe

Named = dict[str, Tensor]
Slots = dict[str, Named]


def slots(recipe: Recipe) -> tuple[str, ...]:
    """The optimizer slots that every parameter has, each of the parameter's shape and starting at zero."""
    return ("momentum",) if recipe.optimizer == "sgd" else ("first_moment", "second_moment")


def apply(recipe: Recipe, parameters: Named, optimizer: Slots, gradients: Named, count: int) -> tuple[Named, Slots]:
    """One update with (already clipped) gradients, out of place; `count` is its number, the first one being 1."""
    rule = sgd if recipe.optimizer == "sgd" else adamw
    new_parameters: Named = {}
    new_slots: Slots = {slot: {} for slot in optimizer}
    for name, gradient in gradients.items():
        old = {slot: values[name] for slot, values in optimizer.items()}
        new_parameters[name], new = rule(recipe, parameters[name], old, gradient, count)
        for slot, value in new.items():
            new_slots[slot][name] = value
    return new_parameters, new_slots


def sgd(recipe: Recipe, p: Tensor, old: Named, g: Tensor, _: int) -> tuple[Tensor, Named]:
    """v = momentum v + (g + weight_decay p); p = p - learning_rate v."""
    momentum = recipe.momentum * old["momentum"] + (g + recipe.weight_decay * p)
    return p - recipe.learning_rate * momentum, {"momentum": momentum}


def adamw(recipe: Recipe, p: Tensor, old: Named, g: Tensor, count: int) -> tuple[Tensor, Named]:
    """Loshchilov and Hutter, Decoupled Weight Decay Regularization, algorithm 2, with bias correction."""
    beta1, beta2 = recipe.betas
    first = beta1 * old["first_moment"] + (1 - beta1) * g
    second = beta2 * old["second_moment"] + (1 - beta2) * g * g
    direction = (first / (1 - beta1**count)) / ((second / (1 - beta2**count)).sqrt() + recipe.epsilon)
    new = p - recipe.learning_rate * (direction + recipe.weight_decay * p)
    return new, {"first_moment": first, "second_moment": second}
