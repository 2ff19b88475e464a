"""The parts of a training step that are the same on local blocks and on whole arrays."""

from __future__ import annotations

from abc import abstractmethod

import jax
import jax.numpy as jnp

from reference.jax.rounding import rounded
from suites.training.jax import optimizers
from suites.training.jax.checkpoint import Checkpointed
from suites.training.jax.recompute import Recomputed
from suites.training.jax.state import Named
from suites.training.state_layout import OF_INPUTS


class TrainingStep(Recomputed, Checkpointed):
    """Losses and their gradients slice by slice, clipping, and the update."""

    @abstractmethod
    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        """Parameters in the compute dtype, rows -> (sum of losses, number of elements in it, observations).

        `metrics/...` are sums over the rows at hand; every other observation has a row for each of them.
        """

    def accumulate(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        """(gradients, sums, rows): gradients and sums of all slices of the batch added up, rows in their order."""
        sizes = self.slice_sizes(len(batch["mask"]))
        if len(sizes) == 1:
            return self.slice_gradients(parameters, batch)
        if len(set(sizes)) > 1:
            return self.accumulate_uneven(parameters, batch, sizes)

        def add(summed: Named, part: Named) -> tuple[Named, tuple[Named, Named]]:
            gradients, sums, rows = self.slice_gradients(parameters, part)
            return self.add_gradients(summed, gradients), (sums, rows)

        parts = {key: self.in_slices(value, len(sizes)) for key, value in batch.items()}
        gradients, (sums, rows) = jax.lax.scan(add, self.no_gradients(parameters), parts)
        rows = {name: self.in_rows(value) for name, value in rows.items()}
        return gradients, {name: value.sum(0) for name, value in sums.items()}, rows

    def in_slices(self, value: jax.Array, number: int) -> jax.Array:
        """[rows, ...] -> [slices, rows of a slice, ...]"""
        return value.reshape(number, -1, *value.shape[1:])

    def in_rows(self, value: jax.Array) -> jax.Array:
        """The inverse."""
        return value.reshape(-1, *value.shape[2:])

    def accumulate_uneven(self, parameters: Named, batch: Named, sizes: list[int]) -> tuple[Named, Named, Named]:
        """Slices of different shapes: a program for each of them, one after the other."""
        gradients, all_sums, all_rows, start = self.no_gradients(parameters), [], [], 0
        for size in sizes:
            part = {key: self.uneven_slice(value, start, size) for key, value in batch.items()}
            new, sums, rows = self.slice_gradients(parameters, part)
            gradients, start = self.add_gradients(gradients, new), start + size
            all_sums.append(sums)
            all_rows.append(rows)
        total = {name: jnp.stack([part[name] for part in all_sums]).sum(0) for name in all_sums[0]}
        return gradients, total, {name: self.joined_slices([part[name] for part in all_rows]) for name in all_rows[0]}

    def uneven_slice(self, value: jax.Array, start: int, size: int) -> jax.Array:
        """One slice of a batch whose slices have different sizes."""
        return value[start : start + size]

    def joined_slices(self, slices: list[jax.Array]) -> jax.Array:
        """The inverse."""
        return jnp.concatenate(slices)

    def no_gradients(self, parameters: Named) -> Named:
        """What the gradients of slices are added to."""
        return {name: jnp.zeros(p.shape, self.gradient_dtype) for name, p in parameters.items()}

    def add_gradients(self, summed: Named, new: Named) -> Named:
        return {name: self.round_gradient(summed[name].astype(self.master) + new[name]) for name in new}

    def slice_gradients(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        """(gradients, sums, rows) of one slice; the gradients, of inputs too, are those of its sum of losses."""

        def loss_sum(parameters: Named, read: Named) -> tuple[jax.Array, tuple[jax.Array, Named]]:
            loss, weight, observations = self.forward(self.to_compute(parameters), batch | read)
            return loss, (weight, observations)

        wide = {name: p.astype(self.master) for name, p in parameters.items()}
        read = {key: batch[key].astype(self.compute) for key in self.real_inputs}
        differentiated = jax.value_and_grad(loss_sum, argnums=(0, 1), has_aux=True)
        (loss, (weight, rows)), (gradients, slopes) = differentiated(wide, read)
        gradients = {name: self.round_gradient(g) for name, g in gradients.items()}
        rows |= {f"{OF_INPUTS}{key}": g for key, g in slopes.items()}
        metrics = {name: rows.pop(name) for name in list(rows) if name.startswith("metrics/")}
        return gradients, {"loss": loss, "weight": weight, **metrics}, rows

    def mean_inputs(self, rows: Named, weight: jax.Array) -> Named:
        """Rows, with gradients of inputs that were those of a sum of losses made those of the mean."""

        def mean(g: jax.Array) -> jax.Array:
            return self.round_gradient(g.astype(self.master) / weight)

        return {name: mean(g) if name.startswith(OF_INPUTS) else g for name, g in rows.items()}

    def read_parameters(self, state: dict) -> Named:
        """The parameters that this step computes with."""
        return state["parameters"]

    def to_compute(self, parameters: Named) -> Named:
        return {name: value.astype(self.compute) for name, value in parameters.items()}

    def normalizer(self, elements: jax.Array) -> jax.Array:
        """What sums and gradients are divided by: the valid elements of the whole batch, 1 where there are none."""
        return jnp.where(elements == 0, 1, elements)

    def clip_factor(self, norm: jax.Array) -> jax.Array:
        threshold = self.contract.recipe.clip_norm
        return jnp.ones_like(norm) if threshold is None else jnp.minimum(1, threshold / norm)

    def update(self, state: dict, gradients: Named, factor: jax.Array) -> dict:
        """New state from the gradients and the factor that clips them."""
        slots, count = dict(state["optimizer"]), state["count"] + 1
        wide = slots.pop("master", None) or {name: p.astype(self.master) for name, p in state["parameters"].items()}
        clipped = {name: factor * g for name, g in gradients.items()}
        wide, slots = optimizers.apply(self.contract.recipe, wide, slots, clipped, count, self)
        stored = {name: rounded(p, self.stored_dtype) for name, p in wide.items()}
        slots |= {"master": wide} if self.master_dtype else {}
        return {"parameters": stored, "optimizer": slots, "count": count}

    def finished_sums(self, sums: Named, weight: jax.Array) -> Named:
        """Sums over the whole batch -> the means that are reported."""
        return {name: value / weight for name, value in sums.items()}

    def adjusted(self, state: dict, sums: Named) -> dict:
        """The state after updates that use sums over the whole batch instead of gradients (router biases)."""
        return state

    @abstractmethod
    def orthogonal(self, name: str, u: jax.Array) -> jax.Array:
        """The block at hand of the orthogonalised matrix, every block of which must be known for that."""

    @abstractmethod
    def tensor_norms(self, values: Named) -> Named:
        """Blocks by parameter -> the norm of each whole tensor, the same on all devices."""
