"""The single-device training step in PyTorch: the truth that sharded programs are measured against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from reference import parameters as canonical
from reference.batches import slices
from reference.precision import policy
from reference.torch import optimizers
from reference.torch.layers import dtype_of
from reference.torch.optimizers import total
from reference.torch.transformer import Forward, Tensors, build

State = dict[str, Any]


class Trainer:
    """Place parameters, train step by step, collect: `contract` gives model, shapes and recipe (duck-typed).

    A step never changes the state it is given. Tensors are made on torch's default device.
    """

    def __init__(self, contract: Any, dtype: str) -> None:
        self.recipe, self.shapes = contract.recipe, dict(contract.shapes)
        self.policy = policy(dtype, contract.recipe.precision)
        self._model = build(contract.model, self.policy.statistics)

    def place(self, parameters: Mapping[str, np.ndarray]) -> State:
        """Canonical parameters -> state before the first step. Raises ValueError for parameters of another model."""
        canonical.check(self.shapes, parameters)
        master = dtype_of(self.policy.master)
        placed = {name: torch.tensor(parameters[name], dtype=master) for name in self.shapes}
        return {
            "parameters": placed,
            "optimizer": optimizers.slots(placed, self.recipe),
            "count": torch.zeros((), dtype=torch.int32),
        }

    def step(self, state: State, batch: Mapping[str, np.ndarray]) -> tuple[State, Tensors]:
        """One training step on the whole batch -> (new state, observations in data-flow order)."""
        parameters, count = state["parameters"], state["count"] + 1
        observations, gradients = self._accumulate(parameters, self._cast(batch))
        with torch.no_grad():
            norm = optimizers.global_norm(gradients)
            clipped = optimizers.clip(gradients, norm, self.recipe.clip_norm)
            moved, slots = optimizers.update(parameters, clipped, state["optimizer"], count, self.recipe)
        observations |= {f"gradients/{name}": gradients[name] for name in reversed(self.shapes)}
        observations["metrics/grad_norm"] = norm
        return {"parameters": moved, "optimizer": slots, "count": count}, observations

    def collect(self, state: State) -> Tensors:
        """State -> parameters/<name>, optimizer/<slot>/<name>, optimizer/count."""
        found = {f"parameters/{name}": state["parameters"][name] for name in self.shapes}
        for slot in optimizers.SLOTS[self.recipe.optimizer]:
            found |= {f"optimizer/{slot}/{name}": state["optimizer"][slot][name] for name in self.shapes}
        return found | {"optimizer/count": state["count"]}

    def _accumulate(self, parameters: Tensors, batch: Tensors) -> tuple[Tensors, Tensors]:
        """Forward and backward over the slices of a batch: sums over all of them, divided once; observed, gradients."""
        parts = [self._differentiate(parameters, part) for part in slices(batch, self.recipe.accumulation)]
        forwards = [forward for forward, _ in parts]
        sums = {name: total(forward.sums[name] for forward in forwards) for name in forwards[0].sums}
        weight = torch.where(sums["weight"] == 0, 1, sums["weight"])  # a batch without a valid element: zero gradients
        observed = {name: torch.cat([forward.observed[name] for forward in forwards]) for name in forwards[0].observed}
        observed["metrics/tokens"] = sums["tokens"]
        observed |= {f"metrics/{term}": sums[term] / weight for term in ("cross_entropy", "z_loss") if term in sums}
        observed["loss"] = sums["loss"] / weight
        return observed, {name: total(gradients[name] for _, gradients in parts) / weight for name in parameters}

    def _differentiate(self, parameters: Tensors, batch: Tensors) -> tuple[Forward, Tensors]:
        """The model in the compute dtype, differentiated with respect to the master parameters."""
        leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        loaded = {name: leaf.to(dtype_of(self.policy.compute)) for name, leaf in leaves.items()}
        forward = torch.func.functional_call(self._model, loaded, (batch,), strict=True)
        gradients = torch.autograd.grad(forward.sums["loss"], list(leaves.values()))
        detached = Forward(*({name: value.detach() for name, value in part.items()} for part in forward))
        return detached, dict(zip(leaves, gradients, strict=True))

    def _cast(self, batch: Mapping[str, np.ndarray]) -> Tensors:
        """Inputs in the compute dtype; float targets, mask and padding in `statistics`; ids as they are."""
        wanted = {"inputs": dtype_of(self.policy.compute)}
        tensors = {key: torch.tensor(value) for key, value in batch.items()}
        return {
            key: value.to(wanted.get(key, dtype_of(self.policy.statistics))) if value.is_floating_point() else value
            for key, value in tensors.items()
        }
