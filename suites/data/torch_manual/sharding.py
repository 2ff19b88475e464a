"""Between a whole tensor and the shard of it that a rank keeps."""

from __future__ import annotations

from torch import Tensor

from suites.data.arrangement import ShardedState, in_chunks
from suites.training.torch_collectives import MeshAxis
from suites.training.torch_state import pad_to_multiple


class Sharding(ShardedState):
    """Shards are chunks along dim 0, all of one size: zeros behind the end of what does not divide."""

    @property
    def shards(self) -> MeshAxis:
        return self.axis(self.shard_axis)

    def own_shard(self, name: str, whole: Tensor) -> Tensor:
        """What this rank keeps of a tensor of the size that the model computes with."""
        return self.shards.own(self.padded(name, whole), self.shard_dim(name))

    def gathered(self, name: str, shard: Tensor) -> Tensor:
        """All shards side by side, without the padding: what the model computes with."""
        whole = self.shards.all_gather(shard, self.shard_dim(name))
        return whole.narrow(self.shard_dim(name), 0, self.computed_size(name))

    def scatter_gradient(self, name: str, g: Tensor) -> Tensor:
        """The gradient from this rank's rows -> its own shard of the sum over the shard axis."""
        g = self.padded(name, self.round_gradient(g))
        return self.reduced(g, lambda x: self.shards.reduce_scatter(x, self.shard_dim(name)))

    def padded(self, name: str, whole: Tensor) -> Tensor:
        dim, missing = self.shard_dim(name), -whole.shape[self.shard_dim(name)] % self.shard_size()
        return whole.movedim(dim, -1)

    def computed_size(self, name: str) -> int:
        """Size of the sharded dim on a rank that computes with it."""
