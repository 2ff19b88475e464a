"""The parts of a training step that are the same on local blocks and on whole arrays."""

from __future__ import annotations

from abc import abstractmethod

import jax
import jax.numpy as jnp

from suites.training import jax_optimizers as optimizers
from suites.training.jax_state import JaxTraining, Named


class TrainingStep(JaxTraining):
    """Losses and their gradients slice by slice, clipping, and the update."""

    @abstractmethod
    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        """Parameters in the compute dtype, rows -> (sum of losses, number of elements in it, observations).

        `metrics/...` are sums over the rows at hand; every other observation has a row for each of them.
        """

    def accumulate(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        """(gradients, sums, rows): gradients and sums of all slices of the batch added up, rows in their order."""
        slices = self.contract.recipe.accumulation
        if slices == 1:
            return self.slice_gradients(parameters, batch)

        def add(summed: Named, part: Named) -> tuple[Named, tuple[Named, Named]]:
            gradients, sums, rows = self.slice_gradients(parameters, part)
            return self.add_gradients(summed, gradients), (sums, rows)

        parts = {key: value.reshape(slices, -1, *value.shape[1:]) for key, value in batch.items()}
        gradients, (sums, rows) = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, parameters), parts)
        rows = {name: value.reshape(-1, *value.shape[2:]) for name, value in rows.items()}
        return gradients, {name: value.sum(0) for name, value in sums.items()}, rows

    def add_gradients(self, summed: Named, new: Named) -> Named:
        return {name: summed[name] + new[name] for name in new}

    def slice_gradients(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        """(gradients, sums, rows) of one slice; the gradients are those of its sum of losses."""

        def loss_sum(parameters: Named) -> tuple[jax.Array, tuple[jax.Array, Named]]:
            narrow = {name: value.astype(self.compute) for name, value in parameters.items()}
            loss, weight, observations = self.forward(narrow, batch)
            return loss, (weight, observations)

        (loss, (weight, rows)), gradients = jax.value_and_grad(loss_sum, has_aux=True)(parameters)
        metrics = {name: rows.pop(name) for name in list(rows) if name.startswith("metrics/")}
        return gradients, {"loss": loss, "weight": weight, **metrics}, rows

    def read_parameters(self, state: dict) -> Named:
        """The parameters that this step computes with."""
        return state["parameters"]

    def normalizer(self, elements: jax.Array) -> jax.Array:
        """What sums and gradients are divided by: the valid elements of the whole batch, 1 where there are none."""
        return jnp.where(elements == 0, 1, elements)

    def clip_factor(self, norm: jax.Array) -> jax.Array:
        threshold = self.contract.recipe.clip_norm
        return jnp.ones_like(norm) if threshold is None else jnp.minimum(1, threshold / norm)

    def update(self, state: dict, gradients: Named, factor: jax.Array) -> dict:
        """New state from the gradients and the factor that clips them."""
        count = state["count"] + 1
        clipped = {name: factor * g for name, g in gradients.items()}
        parameters, slots = optimizers.apply(
            self.contract.recipe, state["parameters"], state["optimizer"], clipped, count
        )
        return {"parameters": parameters, "optimizer": slots, "count": count}
