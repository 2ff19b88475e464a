"""Updates by torch's own optimizers, on DTensors, out of place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from conformance.contract.contract import Recipe

Named = dict[str, Tensor]
Slots = dict[str, Named]
STATE = {"momentum": "momentum_buffer", "first_moment": "exp_avg", "second_moment": "exp_avg_sq"}  # ours -> torch's


def updated(
    recipe: Recipe, parameters: Named, slots: Slots, gradients: Named, count: int, decay: Mapping[str, float]
) -> tuple[Named, Slots]:
    """One update with clipped gradients, its number being `count`, in the dtype of the gradients."""
    moved = {name: nn.Parameter(p.detach().clone()) for name, p in parameters.items()}
    optimizer = build(recipe, groups(moved, decay))
    for name, p in moved.items():
        p.grad = gradients[name]
        optimizer.state[p] = {STATE[slot]: values[name].clone() for slot, values in slots.items()}
        if recipe.optimizer == "adamw":
            optimizer.state[p]["step"] = torch.tensor(float(count - 1))
    optimizer.step()
    new_slots = {slot: {name: optimizer.state[p][STATE[slot]] for name, p in moved.items()} for slot in slots}
    return {name: p.detach() for name, p in moved.items()}, new_slots


def groups(parameters: Mapping[str, nn.Parameter], decay: Mapping[str, float]) -> list[dict[str, Any]]:
    """Parameters of the same weight decay make one group of torch's."""
    return [
        {"params": [p for name, p in parameters.items() if decay[name] == rate], "weight_decay": rate}
        for rate in dict.fromkeys(decay.values())
    ]


def build(recipe: Recipe, parameters: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """torch's SGD and AdamW follow the rules of the recipe; both decay as it does."""
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, recipe.learning_rate, recipe.betas, recipe.epsilon)
    return torch.optim.SGD(parameters, recipe.learning_rate, momentum=recipe.momentum)
