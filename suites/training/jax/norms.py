"""Norms of whole tensors of which each device stores a block."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from conformance.contract.placements import sharded_dim
from suites.training.jax.state import Named
from suites.training.jax.step import TrainingStep
from suites.training.state_layout import first_copies


class TensorNorms(TrainingStep):
    """Law: every element of a tensor counts once, on whatever devices it is stored, and padding not at all."""

    def tensor_norms(self, values: Named) -> Named:
        """Those sharded over the same axes are summed together."""
        norms: Named = {}
        for axes, names in self.by_slot_axes().items():
            squares = jnp.stack([self.own_squares(name, values[name]) for name in names])
            norms |= dict(zip(names, jnp.sqrt(self.sum_squares(axes, squares)), strict=True))
        return norms

    def sum_squares(self, axes: tuple[str, ...], squares: jax.Array) -> jax.Array:
        """Sums over this device's blocks -> sums over whole tensors."""
        return jax.lax.psum(squares, axes) if axes else squares

    def own_squares(self, name: str, x: jax.Array) -> jax.Array:
        """The sum of squares of what this device is the first to store, x being its block of an optimizer slot."""
        placements = self.slot_placements(name)
        for dim, stored in self.slot_positions(name).items():
            counts = jnp.asarray(first_copies(stored), x.dtype)
            for axis in self.slot_axes(name):
                if sharded_dim(placements[axis]) == dim:
                    counts = counts.reshape(self.mesh.size(axis), -1)[jax.lax.axis_index(axis)]
            x = x * jnp.expand_dims(counts, tuple(d for d in range(x.ndim) if d != dim))
        return jnp.sum(x * x)

    def by_slot_axes(self) -> dict[tuple[str, ...], list[str]]:
        """Axes -> the parameters whose slots they divide."""
        names: dict[tuple[str, ...], list[str]] = {}
        for name in self.contract.shapes:
            names.setdefault(self.slot_axes(name), []).append(name)
        return names
