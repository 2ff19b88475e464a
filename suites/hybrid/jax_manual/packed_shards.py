"""Full sharding of vectors: each device keeps a shard of every parameter of its stages, one behind the other.

Law: at the beginning of a slice of the batch shards are gathered, at its end gradients are scattered: ZeRO stage 3 with
one gather for all microbatches of a slice.
Source: Rajbhandari et al., ZeRO, section 5.3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from conformance.contract.placements import Placements
from suites.data.jax_manual.sharding import ShardedGradients
from suites.pipeline.jax_manual.packing import PACKED
from suites.pipeline.jax_manual.vector import Vector
from suites.training.jax.state import Named
from suites.training.state_layout import Positions


class PackedShards(ShardedGradients):
    """A mixin for a pipeline, which packs what a rank holds into vectors."""

    stored_vector: Vector
    vector: Callable[..., Vector]
    on_own_rank: Callable[..., Any]

    def placements(self, name: str) -> Placements:
        return self.sharded_placements(name) if name in self.contract.shapes else super().placements(name)

    def positions(self, name: str) -> Positions:
        return self.sharded_positions(name) if name in self.contract.shapes else super().positions(name)

    @cached_property
    def computed_vector(self) -> Vector:
        return self.vector(self.computed_placements, self.computed_positions)

    def no_gradients(self, parameters: Named) -> Named:
        return {name: jnp.zeros(p.shape, self.gradient_dtype) for name, p in parameters.items()}

    def slice_gradients(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        whole = self.on_own_rank(self.gathered, parameters[PACKED])
        gradients, sums, rows = super().slice_gradients({PACKED: whole}, batch)
        return {PACKED: self.on_own_rank(self.scattered, gradients[PACKED], parameters[PACKED])}, sums, rows

    def gathered(self, rank: int, shards: jax.Array) -> jax.Array:
        """The vector of shards of a device of this rank -> the vector that its stages compute with."""
        whole = {name: self.gather(name, shard) for name, shard in self.stored_vector.unpacked(shards, rank).items()}
        return self.computed_vector.added(jnp.zeros(self.computed_vector.length, shards.dtype), whole, rank)

    def scattered(self, rank: int, gradients: jax.Array, like: jax.Array) -> jax.Array:
        """Gradients from this device's rows -> the shards of their sum over the shard axis."""
        whole = self.computed_vector.unpacked(gradients, rank)
        shards = {name: self.scatter_gradient(name, g) for name, g in whole.items()}
        return self.stored_vector.added(jnp.zeros(like.shape, self.gradient_dtype), shards, rank)
