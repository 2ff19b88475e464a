"""The training step of a function of rows in torch. A subclass supplies the collectives.

Law: the loss is the sum of the losses of all ranks, each of which weighs the results that it has; the gradient of a
rank's rows is what comes back to it by the transposed collective.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from conformance.contract.implementation import Declarations
from reference.rows import OPERAND
from suites.collectives.torch_manual.functions import RowFunctions
from suites.collectives.torch_manual.joint_axis import JointAxis
from suites.training.state_layout import arrange
from suites.training.torch import optimizers
from suites.training.torch.state import Named, State, TorchTraining
from suites.training.traffic import Transfer, total


class RowStep(RowFunctions, TorchTraining):
    """One step: the collective, its gradient, the update of the rows that a rank has."""

    @cached_property
    def joint(self) -> JointAxis:
        """The axes of the collective as one."""
        return JointAxis.over(self.device_mesh, self.axes_used)

    def place_on_axis(self) -> int:
        return self.joint.rank

    def step(self, state: State, batch: dict[str, np.ndarray]) -> tuple[State, Mapping[str, Any]]:
        weights = torch.tensor(self.part(batch, "weights"), dtype=self.master)
        x = state["parameters"][OPERAND].to(self.compute).requires_grad_()
        y = self.function(x)
        observed = {"outputs/y": self.as_result(y.detach())}
        if self.model.whole:
            observed["outputs/counts"] = self.as_result(self.function(torch.tensor(self.part(batch, "counts"))))
        loss = (weights * y.to(self.master)).sum()
        (gradient,) = torch.autograd.grad(loss, x)
        observed["loss"] = self.sum_over_mesh(loss.detach())
        observed[f"gradients/{OPERAND}"] = self.as_gradient(OPERAND, self.round_gradient(gradient))
        return self.updated(state, {OPERAND: gradient.to(self.master)}), observed

    def part(self, batch: dict[str, np.ndarray], key: str) -> np.ndarray:
        """This rank's part of a key; zeros where a dim does not divide over all axes of the collective together."""
        size = batch[key].shape[0]
        filled = np.pad(np.arange(size), (0, -size % self.devices), constant_values=-1)
        return self.block(arrange(batch[key], {0: filled}), self.batch_placements(key))

    def as_result(self, y: Tensor) -> Any:
        placements, positions = self.observation_placements("outputs/y"), self.observation_positions("outputs/y")
        return self.described(y, placements, positions, self.output_shape("outputs/y", y, placements))

    def sum_over_mesh(self, x: Tensor) -> Tensor:
        for axis in self.mesh.axes:
            x = self.axis(axis).all_reduce(x)
        return x

    def loss_transfers(self) -> Iterator[Transfer]:
        """One axis after the other."""
        for axis in self.mesh.axes:
            yield Transfer(kind="all_reduce", axes=(axis,), phase="update", elements=1, dtype=self.loss_dtype)

    def updated(self, state: State, gradients: Named) -> State:
        count = state["count"] + 1
        moved, slots = optimizers.apply(
            self.contract.recipe, state["parameters"], state["optimizer"], gradients, count, self
        )
        return {"parameters": moved, "optimizer": slots, "count": count}

    def orthogonal(self, name: str, u: Tensor) -> Tensor:
        raise NotImplementedError("rows are trained by SGD")

    def tensor_norms(self, values: Named) -> Named:
        raise NotImplementedError("rows are trained by SGD")

    def declare(self) -> Declarations:
        return Declarations(
            layout=self.layout(), traffic=total(self.transfers(), self.mesh), reduction_dtype=self.compute_dtype
        )
