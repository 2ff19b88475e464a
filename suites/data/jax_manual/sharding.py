"""Conversions between a tensor that the model computes with and the shard that a device keeps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from suites.data.layout import GradientShards, ShardedState, SlotShards
from suites.tensor.jax_manual.collectives import TensorParallel
from suites.training.jax.state import Named, pad_to_multiple


class Sharding(ShardedState, TensorParallel):
    """Shards are chunks of one size along one dim; the last ones are zero-padded where the size does not divide."""

    def own_shard(self, name: str, whole: jax.Array) -> jax.Array:
        if self.shard_size() == 1:
            return whole
        whole, dim = pad_to_multiple(whole, self.shard_dim(name), self.shard_size()), self.shard_dim(name)
        width = whole.shape[dim] // self.shard_size()
        return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index(self.shard_axis) * width, width, dim)

    def stored_part(self, name: str, whole: jax.Array) -> jax.Array:
        return self.own_shard(name, whole)

    def gather(self, name: str, shard: jax.Array) -> jax.Array:
        """All shards side by side, without the padding."""
        if self.shard_size() == 1:
            return shard
        dim = self.shard_dim(name)
        padded = jax.lax.all_gather(shard, self.shard_axis, axis=dim, tiled=True)
        return jax.lax.slice_in_dim(padded, 0, self.width(name), axis=dim)

    def width(self, name: str) -> int:
        """Size of the sharded dim on a device that computes with the parameter."""
        dim = self.shard_dim(name)
        return len(self.computed_positions(name).get(dim, range(self.contract.shapes[name][dim]))) // self.others(name)


class ShardedSlots(SlotShards, Sharding):
    """Each device updates its shard of every parameter, and has the optimizer slots of that shard alone."""

    def update(self, state: dict, gradients: Named, factor: jax.Array) -> dict:
        """The gradients are those of the shards."""
        shards = {name: self.own_shard(name, p) for name, p in state["parameters"].items()}
        new = super().update(state | {"parameters": shards}, gradients, factor)
        return new | {"parameters": {name: self.gather_updated(name, p) for name, p in new["parameters"].items()}}

    def gather_updated(self, name: str, shard: jax.Array) -> jax.Array:
        """The updated shards of all devices -> the parameter that all of them compute with."""
        return self.gather(name, shard)


class ShardedGradients(GradientShards, Sharding):
    """A reduce-scatter of gradients over the shard axis, then a sum over the other axes of the data."""

    def no_gradients(self, parameters: Named) -> Named:
        return {name: self.own_shard(name, zero) for name, zero in super().no_gradients(parameters).items()}

    def scatter_gradient(self, name: str, g: jax.Array) -> jax.Array:
        """The gradient from this device's rows -> this device's shard of the sum over the shard axis."""
        g = pad_to_multiple(self.round_gradient(g), self.shard_dim(name), self.shard_size())
        return self.reduced(g, lambda x: self.sum_and_scatter(x, self.shard_dim(name)))

    def sum_and_scatter(self, x: jax.Array, dim: int) -> jax.Array:
        if self.shard_size() == 1:
            return x
        return jax.lax.psum_scatter(x, self.shard_axis, scatter_dimension=dim, tiled=True)

    def own_part(self, dim: int, elements: np.ndarray, padding: int) -> jax.Array:
        """Of the elements that this tensor device computes with, those of this device's shard."""
        own = super().own_part(dim, elements, padding)
        if dim != 0 or self.shard_size() == 1:
            return own
        missing = -len(own) % self.shard_size()
        chunks = jnp.pad(own, (0, missing), constant_values=padding).reshape(self.shard_size(), -1)
        return chunks[jax.lax.axis_index(self.shard_axis)]
