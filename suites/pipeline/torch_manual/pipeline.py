"""The training step of a pipeline in torch: what is reduced over ranks, what each rank keeps, what it declares.

Every rank has the parameters of its own stages and no others.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from conformance.contract.implementation import Traffic
from conformance.contract.placements import Owned, Placements
from suites.pipeline.step_budget import RANKS, PipelineBudget
from suites.pipeline.torch_manual.executor import Executor
from suites.training.torch.state import Named, dtype_of


class Pipeline(Executor):
    """Stages on the ranks of the pipeline axis, and rows of the batch on the data axes."""

    pipeline_budget: ClassVar[PipelineBudget] = RANKS

    def require_supported(self) -> None:
        super().require_supported()
        self.require_pipelined()

    # State.

    @property
    def stored_names(self) -> tuple[str, ...]:
        """Those of this rank's stages."""
        return self.rank_parameters(self.pipeline_rank)

    def whole_parameter(self, name: str, parameters: Named) -> Tensor:
        own = super().whole_parameter(name, parameters) if self.writes(name) else None
        return self.from_writer(name, own, dtype_of(self.stored_dtype))

    def whole_slot(self, name: str, values: Named) -> Tensor:
        own = super().whole_slot(name, values) if self.writes(name) else None
        return self.from_writer(name, own, self.master)

    def writes(self, name: str) -> bool:
        return self.writer(name) == self.pipeline_rank

    def from_writer(self, name: str, whole: Tensor | None, dtype: torch.dtype) -> Tensor:
        """A canonical tensor on the ranks of all stages, from those of the stage that writes it."""
        if whole is None:
            whole = torch.empty(self.contract.shapes[name], dtype=dtype)
        return self.axis(self.pipeline_axis).broadcast(whole, self.writer(name))

    def observation_placements(self, name: str) -> Placements:
        """What a stage observed, its rank alone has."""
        own = super().observation_placements(name)
        return own if self.ranks == 1 else {**own, self.pipeline_axis: Owned(self.pipeline_rank)}

    # Sums.

    def sum_over_data(self, x: Tensor) -> Tensor:
        """Losses are on the last stage only, on every data rank their own."""
        return self.sum_over((*self.data_axes, self.pipeline_axis), x)

    def sum_over(self, axes: tuple[str, ...], x: Tensor) -> Tensor:
        return super().sum_over(tuple(axis for axis in axes if self.mesh.size(axis) > 1), x)

    def sum_gradient(self, name: str, g: Tensor) -> Tensor:
        g = super().sum_gradient(name, g)
        return self.reduced(g, partial(self.sum_tied, name)) if name in self.tied else g

    def sum_tied(self, name: str, g: Tensor) -> Tensor:
        """Each of the two ranks that hold a tied parameter has the gradient of its own use of it."""
        axis, owners = self.axis(self.pipeline_axis), self.owners[name]
        other = owners[axis.rank == owners[0]]
        if axis.rank == owners[0]:
            axis.send(g, other)
        theirs = axis.receive(tuple(g.shape), g.dtype, other)
        if axis.rank != owners[0]:
            axis.send(g, other)
        return g + theirs

    def squared_norm(self, name: str, g: Tensor) -> Tensor:
        """A tied parameter counts on its first rank only."""
        counts = self.pipeline_rank == self.owners[name][0]
        return super().squared_norm(name, g) if counts else torch.zeros((), dtype=g.dtype)

    def sum_over_model(self, x: Tensor) -> Tensor:
        return self.sum_over((self.pipeline_axis,), super().sum_over_model(x))

    # Declarations.

    def compute_axes(self) -> tuple[str, ...]:
        """Stages are uneven."""
        return ()

    def traffic(self) -> tuple[Traffic, ...]:
        """The budget of its contract, mesh and schedule, whatever the program does."""
        budget = self.pipeline_budget.scheduled(self.schedule_name)
        return budget.traffic(self.contract, self.mesh, self.dtype, self.habits)
