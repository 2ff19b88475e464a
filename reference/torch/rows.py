"""The single-device training step of a function of rows, in torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reference.precision import policy
from reference.rows import OPERAND, RowFunction
from reference.torch import optimizers
from reference.torch.layers import Tensors, dtype_of

FUNCTIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "sum": lambda x, root: x.sum(0, dtype=x.dtype),
    "mean": lambda x, root: x.mean(0),
    "max": lambda x, root: x.amax(0),
    "min": lambda x, root: x.amin(0),
    "same": lambda x, root: x,
    "transpose": lambda x, root: x.transpose(0, 1),
    "roll": lambda x, root: x.roll(1, 0),
    "shift": lambda x, root: torch.cat([torch.zeros_like(x[:1]), x[:-1]]),
    "reverse": lambda x, root: x.flip(0),
    "row": lambda x, root: x[root],
}


class Trainer:
    """Places the operand, trains it and collects the state: `contract` gives model and recipe (duck-typed)."""

    def __init__(self, contract: Any, dtype: str) -> None:
        self.model: RowFunction = contract.model
        self.recipe, self.policy = contract.recipe, policy(dtype, contract.recipe.precision)

    def place(self, parameters: Mapping[str, np.ndarray]) -> dict[str, Any]:
        x = {OPERAND: torch.tensor(parameters[OPERAND], dtype=dtype_of(self.policy.optimizer))}
        return {
            "parameters": x,
            "optimizer": optimizers.slots(x, self.recipe),
            "count": torch.zeros((), dtype=torch.int32),
        }

    def step(self, state: dict[str, Any], batch: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], Tensors]:
        """One training step -> (new state, observations in data-flow order)."""
        wide, function = dtype_of(self.policy.statistics), FUNCTIONS[self.model.function]
        x = state["parameters"][OPERAND].to(dtype_of(self.policy.compute)).requires_grad_()
        y = function(x, self.model.root)
        loss = (torch.tensor(batch["weights"], dtype=wide) * y.to(wide)).sum()
        (gradient,) = torch.autograd.grad(loss, x)
        observed = {"outputs/y": y.detach()}
        if self.model.whole:
            observed["outputs/counts"] = function(torch.tensor(batch["counts"]), self.model.root)
        observed |= {"loss": loss.detach(), f"gradients/{OPERAND}": gradient.to(dtype_of(self.policy.gradients))}
        kept, count = {OPERAND: gradient.to(dtype_of(self.policy.optimizer))}, state["count"] + 1
        moved, slots = optimizers.update(state["parameters"], kept, state["optimizer"], count, self.recipe)
        return {"parameters": moved, "optimizer": slots, "count": count}, observed

    def collect(self, state: dict[str, Any]) -> Tensors:
        slots = {f"optimizer/{slot}/{OPERAND}": values[OPERAND] for slot, values in state["optimizer"].items()}
        return {f"parameters/{OPERAND}": state["parameters"][OPERAND], **slots, "optimizer/count": state["count"]}
