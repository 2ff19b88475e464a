"""The training step of a function of rows under `shard_map`. A subclass supplies the collectives.

Law: the loss is the sum of the losses of all devices, each of which weighs the results that it has; the gradient of a
device's rows is what comes back to it by the transposed collective.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from conformance.contract.implementation import Declarations
from reference.rows import OPERAND
from suites.collectives.jax_manual.functions import RowFunctions
from suites.collectives.layout import RowsOverAxes
from suites.training.jax import optimizers
from suites.training.jax.state import JaxTraining, Named, arranged, pad_to_multiple
from suites.training.traffic import total


class RowStep(RowFunctions, RowsOverAxes, JaxTraining):
    """One step: the collective, its gradient, the update of the rows that a device has."""

    @cached_property
    def program(self):
        """`jit(shard_map(device_step))`; of a batch, dim 0 is sharded: zeros where it does not divide."""
        result = self.spec(self.observation_placements("outputs/y"))
        names = ("outputs/y", "outputs/counts") if self.model.whole else ("outputs/y",)
        observed = dict.fromkeys(names, result) | {
            "loss": PartitionSpec(),
            f"gradients/{OPERAND}": self.spec(self.placements(OPERAND)),
        }

        def step(state: dict, batch: Named) -> tuple[dict, Named]:
            on_each_device = jax.shard_map(
                self.device_step,
                mesh=self.device_mesh,
                in_specs=(self.state_specs(), {key: self.spec(self.batch_placements(key)) for key in batch}),
                out_specs=(self.state_specs(), observed),
                check_vma=False,
            )
            return on_each_device(state, {key: pad_to_multiple(value, 0, self.devices) for key, value in batch.items()})

        return jax.jit(step)

    def step(self, state: dict, batch: dict[str, Any]) -> tuple[dict, Mapping[str, Any]]:
        state, observations = self.program(state, batch)
        return state, {name: arranged(value, self.observed_positions(name)) for name, value in observations.items()}

    def device_step(self, state: dict, batch: Named) -> tuple[dict, Named]:
        def loss_of(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            y = self.function(x)
            return jnp.sum(batch["weights"].astype(self.master) * y.astype(self.master)), y

        x = state["parameters"][OPERAND].astype(self.compute)
        (loss, y), gradient = jax.value_and_grad(loss_of, has_aux=True)(x)
        observed = {"outputs/y": y}
        if self.model.whole:
            observed["outputs/counts"] = self.function(batch["counts"])
        with jax.named_scope("update"):
            axes = self.active(self.mesh.axes)
            observed["loss"] = jax.lax.psum(loss, axes) if axes else loss
            observed[f"gradients/{OPERAND}"] = self.round_gradient(gradient)
            state = self.updated(state, {OPERAND: gradient.astype(self.master)})
        return state, observed

    def updated(self, state: dict, gradients: Named) -> dict:
        count = state["count"] + 1
        moved, slots = optimizers.apply(
            self.contract.recipe, state["parameters"], state["optimizer"], gradients, count, self
        )
        return {"parameters": moved, "optimizer": slots, "count": count}

    def orthogonal(self, name: str, u: jax.Array) -> jax.Array:
        raise NotImplementedError("rows are trained by SGD")

    def tensor_norms(self, values: Named) -> Named:
        raise NotImplementedError("rows are trained by SGD")

    def declare(self) -> Declarations:
        return Declarations(
            layout=self.layout(), traffic=total(self.transfers(), self.mesh), reduction_dtype=self.compute_dtype
        )
