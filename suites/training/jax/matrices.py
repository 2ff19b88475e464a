"""Optimizers that need whole matrices, where each device stores a block."""

from __future__ import annotations

import jax

from conformance.contract.placements import Placements, Replicate, sharded_dim
from suites.training.jax import optimizers
from suites.training.jax.state import reordered
from suites.training.jax.step import TrainingStep
from suites.training.state_layout import canonical


class WholeMatrices(TrainingStep):
    """Law: what depends on all elements of a matrix sees the canonical one: no padding, nothing twice, in order."""

    def orthogonal(self, name: str, u: jax.Array) -> jax.Array:
        """This device's block of the orthogonalised matrix."""
        return self.own_block(name, optimizers.newton_schulz(self.whole_matrix(name, u)))

    def whole_matrix(self, name: str, x: jax.Array) -> jax.Array:
        """This device's block of an optimizer slot -> the canonical matrix."""
        for axis, dim in self.gathered_axes(name):
            x = jax.lax.all_gather(x, axis, axis=dim, tiled=True)
        return canonical(x, self.slot_positions(name))

    def own_block(self, name: str, x: jax.Array) -> jax.Array:
        """The canonical matrix -> this device's block of it."""
        x = reordered(x, self.slot_positions(name))
        for axis, dim in reversed(self.gathered_axes(name)):
            width = x.shape[dim] // self.mesh.size(axis)
            x = jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(axis) * width, width, dim)
        return x

    def gathered_axes(self, name: str) -> list[tuple[str, int]]:
        """(axis, dim) for each axis that divides an optimizer slot, the one that cuts finest first."""
        placements: Placements = self.slot_placements(name)
        dims = {axis: sharded_dim(placements.get(axis, Replicate())) for axis in reversed(self.mesh.axes)}
        return [(axis, dim) for axis, dim in dims.items() if dim is not None and self.mesh.size(axis) > 1]
