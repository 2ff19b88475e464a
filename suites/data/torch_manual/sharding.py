"""Conversions between a tensor that the model computes with and the shard that a rank keeps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from suites.data.layout import GradientShards, ShardedState, SlotShards, in_chunks
from suites.tensor.torch_manual.collectives import TensorParallel
from suites.training.torch.collectives import MeshAxis
from suites.training.torch.state import Named


class Sharding(ShardedState, TensorParallel):
    """Shards are chunks of one size along one dim; the last ones are zero-padded where the size does not divide."""

    @property
    def shards(self) -> MeshAxis:
        return self.axis(self.shard_axis)

    def own_shard(self, name: str, whole: Tensor) -> Tensor:
        return self.shards.own(self.padded(name, whole), self.shard_dim(name))

    def stored_part(self, name: str, whole: Tensor) -> Tensor:
        return self.own_shard(name, whole)

    def gather(self, name: str, shard: Tensor) -> Tensor:
        """All shards side by side, without the padding."""
        return self.shards.all_gather(shard, self.shard_dim(name)).narrow(self.shard_dim(name), 0, self.width(name))

    def padded(self, name: str, whole: Tensor) -> Tensor:
        dim = self.shard_dim(name)
        missing = [-n % self.shard_size() if d == dim else n for d, n in enumerate(whole.shape)]
        return torch.cat([whole, whole.new_zeros(missing)], dim) if missing[dim] else whole

    def width(self, name: str) -> int:
        """Size of the sharded dim on a rank that computes with the parameter."""
        dim = self.shard_dim(name)
        return len(self.computed_positions(name).get(dim, range(self.contract.shapes[name][dim]))) // self.others(name)


class ShardedSlots(SlotShards, Sharding):
    """Each rank updates its shard of every parameter, and has the optimizer slots of that shard alone."""

    def update(self, state: dict, gradients: Named, factor: Tensor) -> dict:
        """The gradients are those of the shards."""
        shards = {name: self.own_shard(name, p) for name, p in state["parameters"].items()}
        new = super().update(state | {"parameters": shards}, gradients, factor)
        return new | {"parameters": {name: self.gather_updated(name, p) for name, p in new["parameters"].items()}}

    def gather_updated(self, name: str, shard: Tensor) -> Tensor:
        """The updated shards of all ranks -> the parameter that all of them compute with."""
        return self.gather(name, shard)


class ShardedGradients(GradientShards, Sharding):
    """A reduce-scatter of gradients over the shard axis, then a sum over the other axes of the data."""

    def scatter_gradient(self, name: str, g: Tensor) -> Tensor:
        """The gradient from this rank's rows -> this rank's shard of the sum over the shard axis."""
        g = self.padded(name, self.round_gradient(g))
        return self.reduced(g, lambda x: self.shards.reduce_scatter(x, self.shard_dim(name)))

    def own_part(self, dim: int, elements: np.ndarray, padding: int) -> np.ndarray:
        """Of the elements that this tensor rank computes with, those of this rank's shard."""
        own = super().own_part(dim, elements, padding)
        return in_chunks(own, self.shard_size(), padding)[self.shards.rank] if dim == 0 else own
