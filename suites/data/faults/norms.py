"""The gradient norm and clipping over shards of the state."""

from __future__ import annotations

import math

from suites.tensor.faults import Conforming


class ClippedOnFirstShard(Conforming):
    """The first rank of the shard axis clips, the others do not."""

    def clip_factor(self, norm):
        return 1 + (self.axis_rank(self.shard_axis) == 0) * (super().clip_factor(norm) - 1)


class WholeGradientsCountedByShard(Conforming):
    """Gradients are whole on every rank, and their squares are summed over the shard axis as if they were shards."""

    def sum_over_model(self, x):
        return self.sum_over((self.shard_axis,), super().sum_over_model(x))


class OneParameterOfFirstShard(Conforming):
    """One parameter is taken for a replicated one: only the first rank's shard counts."""

    def squared_norm(self, name, g):
        squares = super().squared_norm(name, g)
        return squares * (self.axis_rank(self.shard_axis) == 0) if name.endswith(".down.weight") else squares


class PaddingEntersNorm(Conforming):
    """The padding of the last shards is uninitialized memory, here 1/16, and is counted in the norm."""

    def squared_norm(self, name, g):
        stored = math.prod(self.arranged_shape(name, self.sharded_positions(name)))
        padding = stored - math.prod(self.contract.shapes[name])
        return super().squared_norm(name, g) + padding / 256 / self.shard_size()
