"""The training step of a pipeline under `shard_map`: sums over devices, and what is handed back.

Vectors of gradients are summed over the data axes as they are; what two ranks hold of a tied parameter is summed over
both. Every element counts once in the norm.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from conformance.contract.implementation import Packed, Reordered, Traffic
from conformance.contract.placements import Owned, Placements, sharded_dim
from suites.pipeline.jax_manual.executor import Executor
from suites.pipeline.jax_manual.packing import PACKED
from suites.pipeline.stages import INPUT_GRADIENTS
from suites.pipeline.step_budget import IN_ONE_PROGRAM, PipelineBudget
from suites.training.jax.state import Named, arranged


class Pipeline(Executor):
    """Stages on the ranks of the pipeline axis, and rows of the batch on the data axes."""

    pipeline_budget: ClassVar[PipelineBudget] = IN_ONE_PROGRAM

    def require_supported(self) -> None:
        super().require_supported()
        self.require_pipelined()

    # The step.

    def output_specs(self) -> dict[str, Any]:
        rows = {PACKED: PartitionSpec(*self.mesh.axes)}
        return {"rows": rows, "sharded": {}, "scalars": PartitionSpec(), "gradients": self.gradient_specs()}

    def finished_rows(self, rows: Named, weight: jax.Array) -> Named:
        """Gradients of inputs, of a sum of losses so far, become those of the mean; a dim for every mesh axis."""
        packed, (start, shape) = rows[PACKED], self.plan.observed[0].get(INPUT_GRADIENTS, (0, (0,)))
        end = start + math.prod(shape)
        on_first = jnp.asarray(self.pipeline_rank() == self.schedule.holders[0])
        mean = jnp.where(on_first, packed[:, start:end] / weight, packed[:, start:end])
        packed = packed.at[:, start:end].set(mean)
        return {PACKED: packed.reshape((1,) * len(self.mesh.axes) + packed.shape)}

    def step(self, state: dict, batch: dict[str, Any]) -> tuple[dict, Mapping[str, Any]]:
        self.require_whole_rows(len(batch["mask"]))
        state, observed = self.program(state, batch)
        vectors, rows = observed.pop(f"gradients/{PACKED}"), observed.pop(PACKED)
        return state, dict(self.row_pieces(rows)) | observed | dict(self.named("gradients", vectors))

    def row_pieces(self, rows: jax.Array) -> Iterator[tuple[str, Packed | Reordered]]:
        """What every stage observed, by name."""
        for stage, starts in enumerate(self.plan.observed):
            for name, (start, shape) in starts.items():
                placements = self.observed_placements(name, stage)
                whole = [rows.shape[-2], *shape]
                for axis, placement in placements.items():
                    if (dim := sharded_dim(placement)) is not None:
                        whole[dim] *= self.mesh.size(axis)
                piece = Packed(
                    value=rows, start=start, size=math.prod(shape), placements=placements, shape=tuple(whole)
                )
                yield name, arranged(piece, self.positions(name))

    def observed_placements(self, name: str, stage: int) -> Placements:
        owner = Owned(self.schedule.holders[stage])
        return {**self.output_placements().get(name, self.row_placements()), self.pipeline_axis: owner}

    # Sums.

    def sum_over_data(self, x: jax.Array) -> jax.Array:
        """Losses are on the last stage only, on every data rank their own."""
        return self.sum_over((*self.data_axes, self.pipeline_axis), x)

    def sum_gradient(self, name: str, g: jax.Array) -> jax.Array:
        g = self.reduced(g, partial(self.sum_over, self.gradient_axes))
        return self.sum_tied(g) if self.tied else g

    def sum_tied(self, g: jax.Array) -> jax.Array:
        """Each rank that holds a tied parameter has the gradient of its own use of it."""
        size = sum(map(self.stored_vector.size, self.tied))  # they stand first in a vector
        flat, holders = g.reshape(-1), self.owners[self.tied[0]]
        holds = jnp.isin(jnp.asarray(self.pipeline_rank()), jnp.asarray(holders))
        total = self.reduced(jnp.where(holds, flat[:size], 0), partial(self.sum_over, (self.pipeline_axis,)))
        return flat.at[:size].set(jnp.where(holds, total, flat[:size])).reshape(g.shape)

    def squared_norm(self, name: str, g: jax.Array) -> jax.Array:
        """This device's share of the squared norm: of its blocks one by one, a tied one on its first rank only."""

        def of_rank(rank: int, g: jax.Array) -> jax.Array:
            blocks = self.stored_vector.unpacked(g, rank)
            squares = [self.block_norm(name, block, rank) for name, block in blocks.items()]
            return jnp.sum(jnp.stack(squares))

        return self.on_own_rank(of_rank, g)

    def block_norm(self, name: str, block: jax.Array, rank: int) -> jax.Array:
        counts = rank == self.owners[name][0]
        return super().squared_norm(name, block) if counts else jnp.zeros((), block.dtype)

    def sum_over_model(self, x: jax.Array) -> jax.Array:
        return self.sum_over((self.pipeline_axis, *self.model_axes), x)

    # Declarations.

    def compute_axes(self) -> tuple[str, ...]:
        """Stages are uneven, and compute their forward pass twice."""
        return ()

    def traffic(self) -> tuple[Traffic, ...]:
        """The budget of its contract, mesh and schedule, whatever the program does."""
        budget = self.pipeline_budget.scheduled(self.schedule_name)
        return budget.traffic(self.contract, self.mesh, self.dtype, self.habits)
