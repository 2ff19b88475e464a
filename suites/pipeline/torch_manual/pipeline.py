"""The training step of a pipeline in torch: what is reduced over ranks, what each rank keeps, what it declares.

Every rank has the parameters of its own stages and no others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from conformance.contract.implementation import Declarations, Phase
from conformance.contract.placements import Owned, Placements
from conformance.workers.fleet import busiest
from suites.pipeline.layout import PASSTHROUGH
from suites.pipeline.schedule import ACTIVATION, SEND, WORK, Event
from suites.pipeline.torch_manual.executor import Executor
from suites.training.torch.state import Named, dtype_of, name_of
from suites.training.traffic import Transfer, total


class Pipeline(Executor):
    """Stages on the ranks of the pipeline axis, and rows of the batch on the data axes."""

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

    def declare(self) -> Declarations:
        """Collectives are the busiest rank's, of each kind over each axis in each phase."""
        ranks = [total(self.rank_transfers(rank), self.mesh) for rank in range(self.ranks)]
        return replace(super().declare(), compute_axes=(), traffic=busiest(ranks))

    def transfers(self) -> Iterator[Transfer]:
        """Those that every rank makes."""
        for axis in (*self.data_axes, self.pipeline_axis):
            yield self.update_transfer(axis, 1, calls=self.summed_scalars())
        for axis in (*self.model_axes, self.pipeline_axis):
            yield self.update_transfer(axis, 1)

    def summed_scalars(self) -> int:
        return len(self.sum_shapes)

    def rank_transfers(self, rank: int) -> Iterator[Transfer]:
        yield from self.transfers()
        for name in self.rank_parameters(rank):
            for axis in self.gradient_axes:
                yield self.gradient_transfer(axis, self.local_elements(name))
            if name in self.tied:
                yield replace(self.gradient_transfer(self.pipeline_axis, self.local_elements(name)), kind="permute")
        for number, size in enumerate(self.device_slices, start=1):
            is_last = number == len(self.device_slices)
            yield from self.messages(rank, size // self.schedule.microbatches, is_last=is_last)

    def messages(self, rank: int, rows: int, is_last: bool) -> Iterator[Transfer]:
        """Those of one slice. What is sent when all work of the step is done counts as update."""
        lane = self.timed_schedule.lanes[rank]
        after = max(index for index, event in enumerate(lane) if event.kind in WORK) if is_last else len(lane)
        for index, event in enumerate(lane):
            if event.kind == SEND and event.peer != rank:
                phase: Phase = "update" if index > after else "forward"
                for elements, dtype in self.message_tensors(event):
                    yield Transfer(
                        kind="permute", axes=(self.pipeline_axis,), phase=phase, elements=rows * elements, dtype=dtype
                    )

    def message_tensors(self, event: Event) -> Iterator[tuple[int, str]]:
        """(elements per row, dtype) of every tensor in a message."""
        for shape in self.crossing(event).values():
            yield math.prod(shape), name_of(self.compute)
        batch = self.contract.batches(0, 1)[0]
        for key in PASSTHROUGH if event.what == ACTIVATION else ():
            if key in batch:
                yield math.prod(batch[key].shape[1:]), "int64"
