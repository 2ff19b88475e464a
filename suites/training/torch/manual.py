"""The training step with explicit collectives: every one of them stands where it happens.

Each rank differentiates its own sum of losses. Then gradients and sums are reduced, divided once by the global number
of valid elements, clipped by their global norm, and every rank updates the blocks of the parameters that it stores.
A suite supplies the model (`forward`), the layout of the parameters, and the reductions over its own axis.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import partial, reduce
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from conformance.contract.implementation import Declarations, Traffic
from conformance.contract.placements import Placements
from suites.training.state_layout import OF_INPUTS
from suites.training.step_budget import TORCH, Budgets, Habits
from suites.training.torch import optimizers
from suites.training.torch.checkpoint import Checkpointed
from suites.training.torch.recompute import Recomputed
from suites.training.torch.state import Named, State, dtype_of
from suites.training.traffic import Transfer, total


class CollectiveTraining(Checkpointed, Recomputed):
    """One training step on the blocks that a rank holds."""

    habits: ClassVar[Habits] = TORCH
    sends: ClassVar[Budgets]  # by the kind of a model

    @property
    def weight_per_token(self) -> int:
        """Elements of the loss per valid token."""
        return 1

    @abstractmethod
    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        """Local parameters and rows -> (sum of losses, number of elements in it, observations).

        `metrics/...` are sums over this rank's rows; every other observation has a row for each of its rows.
        """

    def step(self, state: State, batch: dict[str, np.ndarray]) -> tuple[State, Mapping[str, Any]]:
        local = self.local_batch(batch)
        gradients, sums, rows = self.accumulate(self.read_parameters(state), local)
        sums = {name: self.sum_over_data(value) for name, value in sums.items()}
        valid = sums.pop("weight")
        weight = self.normalizer(valid)
        gradients = {name: self.mean_gradient(name, g, weight) for name, g in gradients.items()}
        wide = {name: g.to(self.master) for name, g in gradients.items()}
        norm = self.global_norm(wide)
        rows = self.finished_rows(rows, weight)
        observations = {name: self.as_output(name, value) for name, value in rows.items()}
        observations["metrics/tokens"] = valid / self.weight_per_token
        observations |= self.finished_sums(sums, weight)
        observations |= {f"gradients/{name}": self.as_gradient(name, gradients[name]) for name in reversed(gradients)}
        observations["metrics/grad_norm"] = norm
        observations |= {f"batch/{key}": self.as_batch(key, value) for key, value in local.items()}
        return self.adjusted(self.update(state, wide, self.clip_factor(norm)), sums), observations

    def accumulate(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        """(gradients, sums, rows) of this rank: gradients and sums of all slices added up, rows in their order."""
        slices = zip(*(value.split(self.slice_sizes(len(value))) for value in batch.values()), strict=True)
        parts = [dict(zip(batch, values, strict=True)) for values in slices]
        done = [self.slice_gradients(parameters, part) for part in parts]
        gradients = reduce(self.add_gradients, (part[0] for part in done))
        sums = {name: torch.stack([part[1][name] for part in done]).sum(0) for name in done[0][1]}
        rows = {name: torch.cat([part[2][name] for part in done]) for name in done[0][2]}
        return gradients, sums, rows

    def finished_rows(self, rows: Named, weight: Tensor) -> Named:
        """Per-row observations of the whole batch: gradients of inputs become those of the mean loss."""

        def mean(g: Tensor) -> Tensor:
            return self.round_gradient(g.to(self.master) / weight)

        return {name: mean(value) if name.startswith(OF_INPUTS) else value for name, value in rows.items()}

    def finished_sums(self, sums: Named, weight: Tensor) -> Named:
        """Sums over the whole batch -> the means that are reported."""
        return {name: value / weight for name, value in sums.items()}

    def stored_part(self, name: str, whole: Tensor) -> Tensor:
        """A replicated array with the shape of a parameter -> the block of it that this device stores."""
        return whole

    def adjusted(self, state: State, sums: Named) -> State:
        """The state after updates that use sums over the whole batch instead of gradients (router biases)."""
        return state

    def add_gradients(self, summed: Named, new: Named) -> Named:
        return {name: summed[name] + new[name] for name in new}

    def slice_gradients(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        """Gradients of the sum of losses of one slice, with respect to the stored parameters and to real inputs."""
        leaves = {name: value.detach().to(self.master).requires_grad_() for name, value in parameters.items()}
        read = self.differentiable(batch)
        loss, weight, observed = self.forward(self.to_compute(leaves), batch | read)
        derivatives = torch.autograd.grad(loss, (*leaves.values(), *read.values()), materialize_grads=True)
        gradients = {name: self.round_gradient(g) for name, g in zip(leaves, derivatives, strict=False)}
        observed = {name: value.detach() for name, value in observed.items()}
        observed |= {f"{OF_INPUTS}{key}": g for key, g in zip(read, derivatives[len(leaves) :], strict=True)}
        metrics = {name: observed.pop(name) for name in list(observed) if name.startswith("metrics/")}
        return gradients, {"weight": weight, **metrics, "loss": loss.detach()}, observed

    def differentiable(self, batch: Named) -> Named:
        """The real inputs of a batch, as what a gradient is taken with respect to."""
        return {key: batch[key].detach().requires_grad_() for key in self.real_inputs}

    def read_parameters(self, state: State) -> Named:
        """The parameters that this step computes with."""
        return state["parameters"]

    def to_compute(self, parameters: Named) -> Named:
        return {name: value.to(self.compute) for name, value in parameters.items()}

    # What is reduced after the gradient.

    def sum_over(self, axes: tuple[str, ...], x: Tensor) -> Tensor:
        """All-reduce over mesh axes, without a gradient."""
        for name in axes:
            x = self.axis(name).all_reduce(x)
        return x

    def sum_over_data(self, x: Tensor) -> Tensor:
        return self.sum_over(self.data_axes, x)

    def sum_gradient(self, name: str, g: Tensor) -> Tensor:
        """Local gradient of a stored parameter -> its gradient over the whole batch."""
        return self.reduced(g, partial(self.sum_over, self.axes_of_gradient(name)))

    def mean_gradient(self, name: str, g: Tensor, weight: Tensor) -> Tensor:
        return self.round_gradient(self.sum_gradient(name, g).to(self.master) / weight)

    def squared_norm(self, name: str, g: Tensor) -> Tensor:
        """This rank's share of the squared norm: what is replicated over an axis counts on the first rank there."""
        squares = (g * g).sum()
        replicated = [axis for axis in self.model_axes if axis not in self.gradient_placements(name)]
        return squares if all(self.axis(axis).rank == 0 for axis in replicated) else torch.zeros_like(squares)

    def sum_over_model(self, x: Tensor) -> Tensor:
        """Sum over the axes that divide the parameters."""
        for name in self.model_axes:
            x = self.axis(name).all_reduce(x)
        return x

    def global_norm(self, gradients: Named) -> Tensor:
        squares = [self.squared_norm(name, g) for name, g in gradients.items()]
        return self.sum_over_model(torch.stack(squares).sum()).sqrt()

    def normalizer(self, elements: Tensor) -> Tensor:
        """What sums and gradients are divided by: the valid elements of the whole batch, 1 where there are none."""
        return torch.where(elements == 0, 1, elements)

    def clip_factor(self, norm: Tensor) -> Tensor:
        threshold = self.contract.recipe.clip_norm
        return torch.ones_like(norm) if threshold is None else (threshold / norm).clamp(max=1)

    def update(self, state: State, gradients: Named, factor: Tensor) -> State:
        """New state from the gradients and the factor that clips them."""
        slots, count = dict(state["optimizer"]), state["count"] + 1
        wide = slots.pop("master", None) or {name: p.to(self.master) for name, p in state["parameters"].items()}
        clipped = {name: factor * g for name, g in gradients.items()}
        wide, slots = optimizers.apply(self.contract.recipe, wide, slots, clipped, count, self)
        stored = {name: p.to(dtype_of(self.stored_dtype)) for name, p in wide.items()}
        slots |= {"master": wide} if self.master_dtype else {}
        return {"parameters": stored, "optimizer": slots, "count": count}

    # What is declared.

    def declare(self) -> Declarations:
        return Declarations(
            layout=self.layout(),
            traffic=self.traffic(),
            reduction_dtype=self.reduction_dtype,
            compute_axes=self.compute_axes(),
        )

    def layout(self) -> dict[str, Placements]:
        """How parameters, optimizer slots, gradients and the batch are stored."""
        parameters = {name: self.placements(name) for name in self.contract.shapes}
        return parameters | self.layout_of_others()

    def compute_axes(self) -> tuple[str, ...]:
        """The axes over which the matrix products are sharded, where none is done twice."""
        return () if self.repeats_products else self.data_axes

    @property
    def repeats_products(self) -> bool:
        """Whether products of the model are computed twice, or products of the optimizer on every rank."""
        return self.contract.recipe.recompute != "none" or self.contract.recipe.optimizer == "muon"

    def transfers(self) -> Iterator[Transfer]:
        """What a step communicates: the budget of its contract on its mesh, whatever the program does."""
        return self.sends[self.contract.model.kind].transfers(self.contract, self.mesh, self.dtype, self.habits)

    def traffic(self) -> tuple[Traffic, ...]:
        """The same, added up."""
        return total(self.transfers(), self.mesh)
