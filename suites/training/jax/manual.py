"""The training step under `shard_map`: every collective stands where it happens.

Each device differentiates its own sum of losses. Then gradients and sums are reduced, divided once by the global number
of valid elements, clipped by their global norm, and every device updates the blocks of the parameters that it stores.
A suite supplies the model (`forward`), the layout of the parameters, and the reductions over its own axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from conformance.contract.implementation import Declarations, Traffic
from conformance.contract.placements import Placements, sharded_dim
from suites.training.jax.matrices import WholeMatrices
from suites.training.jax.norms import TensorNorms
from suites.training.jax.state import Named, pad_to_multiple, reordered
from suites.training.state_layout import OF_INPUTS
from suites.training.step_budget import JAX, Budgets, Habits
from suites.training.traffic import Transfer, total


class ShardMapTraining(WholeMatrices, TensorNorms):
    """One training step on the blocks that a device holds."""

    habits: ClassVar[Habits] = JAX
    sends: ClassVar[Budgets]  # by the kind of a model

    @cached_property
    def program(self):
        """`jit(shard_map(device_step))`."""
        outputs = self.output_specs()

        def step(state: dict, batch: Named) -> tuple[dict, Named]:
            batch_specs = {key: self.spec(self.batch_placements(key)) for key in batch}
            on_each_device = jax.shard_map(
                self.watched_step,
                mesh=self.device_mesh,
                in_specs=(self.state_specs(), batch_specs),
                out_specs=(self.state_specs(), outputs, batch_specs),
                check_vma=False,
            )
            state, observed, local = on_each_device(state, self.padded(batch))
            apart = {"gradients": observed.pop("gradients"), "batch": local}
            named = {f"{kind}/{name}": value for kind, group in apart.items() for name, value in group.items()}
            return state, {name: value for group in observed.values() for name, value in group.items()} | named

        return jax.jit(step)

    def watched_step(self, state: dict, batch: Named) -> tuple[dict, dict[str, Named], Named]:
        """The step of one device, and the part of the batch that it was given."""
        return *self.device_step(state, batch), batch

    def output_specs(self) -> dict[str, Any]:
        """The partition specs of the observations of `device_step`."""
        return {
            "rows": self.spec(self.row_placements()),
            "sharded": {name: self.spec(self.observation_placements(name)) for name in self.sharded_otherwise()},
            "scalars": PartitionSpec(),
            "gradients": self.gradient_specs(),
        }

    def sharded_otherwise(self) -> tuple[str, ...]:
        """The per-row observations whose sharding is not that of the rows."""
        return (*self.output_placements(), *(f"{OF_INPUTS}{key}" for key in self.real_inputs))

    def padded(self, batch: Named) -> Named:
        """The batch in the order in which it is sharded; zeros where a dim does not divide over its axis."""
        padded = {key: reordered(value, self.batch_positions(key)) for key, value in batch.items()}
        for key in batch:
            for axis, placement in self.batch_placements(key).items():
                if (dim := sharded_dim(placement)) is not None:
                    padded[key] = pad_to_multiple(padded[key], dim, self.mesh.size(axis))
        return padded

    def device_step(self, state: dict, batch: Named) -> tuple[dict, dict[str, Named]]:
        """The step of one device: local state and rows -> new local state and observations."""
        gradients, sums, rows = self.accumulate(self.read_parameters(state), batch)
        with jax.named_scope("update"):
            sums = {name: self.sum_over_data(value) for name, value in sums.items()}
            elements = sums.pop("weight")
            weight = self.normalizer(elements)
            gradients = {name: self.mean_gradient(name, g, weight) for name, g in gradients.items()}
            wide = {name: g.astype(self.master) for name, g in gradients.items()}
            norm = self.global_norm(wide)
            state = self.adjusted(self.update(state, wide, self.clip_factor(norm)), sums)
        rows = self.finished_rows(rows, weight)
        scalars = self.finished_sums(sums, weight)
        scalars |= {"metrics/tokens": elements / self.weight_per_token, "metrics/grad_norm": norm}
        sharded = {name: rows.pop(name) for name in self.sharded_otherwise() if name in rows}
        return state, {"rows": rows, "sharded": sharded, "scalars": scalars, "gradients": gradients}

    def finished_rows(self, rows: Named, weight: jax.Array) -> Named:
        """The per-row observations, once the weight of the whole batch is known."""
        return self.mean_inputs(rows, weight)

    def stored_part(self, name: str, whole: jax.Array) -> jax.Array:
        """A replicated array with the shape of a parameter -> the block of it that this device stores."""
        return whole

    # Reductions.

    def sum_over(self, axes: tuple[str, ...], x: jax.Array) -> jax.Array:
        """All-reduce over mesh axes, without a gradient."""
        return jax.lax.psum(x, active) if (active := self.active(axes)) else x

    def sum_over_data(self, x: jax.Array) -> jax.Array:
        return self.sum_over(self.data_axes, x)

    def sum_gradient(self, name: str, g: jax.Array) -> jax.Array:
        """Gradient of this device's sum of losses -> gradient of the sum over the whole batch."""
        return self.reduced(g, partial(self.sum_over, self.axes_of_gradient(name)))

    def mean_gradient(self, name: str, g: jax.Array, weight: jax.Array) -> jax.Array:
        return self.round_gradient(self.sum_gradient(name, g).astype(self.master) / weight)

    def squared_norm(self, name: str, g: jax.Array) -> jax.Array:
        """This device's share of the squared norm: every element of a parameter counts on one device only."""
        return jnp.sum(g * g)

    def sum_over_model(self, x: jax.Array) -> jax.Array:
        """Sum over the axes that divide the parameters."""
        return x

    def global_norm(self, gradients: Named) -> jax.Array:
        squares = [self.squared_norm(name, g) for name, g in gradients.items()]
        return jnp.sqrt(self.sum_over_model(jnp.sum(jnp.stack(squares))))

    # Declarations.

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
        """Whether layers are computed again, or every device makes the same matrices orthogonal."""
        return self.contract.recipe.recompute != "none" or self.contract.recipe.optimizer == "muon"

    def transfers(self) -> Iterator[Transfer]:
        """What a step communicates: the budget of its contract on its mesh, whatever the program does."""
        return self.sends[self.contract.model.kind].transfers(self.contract, self.mesh, self.dtype, self.habits)

    def traffic(self) -> tuple[Traffic, ...]:
        """The same, added up."""
        return total(self.transfers(), self.mesh)
