"""State that is stale, stays on one device, or lies in the wrong place."""

from __future__ import annotations

import numpy as np

from suites.tensor.faults import Conforming


class HeadDriftsFromEmbedding(Conforming):
    """The tied head computes with a copy of the embedding, which is that of the step before."""

    def read_parameters(self, state):
        self.behind = self.contract.recipe.learning_rate * state["optimizer"]["momentum"]["embedding.weight"]
        return super().read_parameters(state)

    def logits(self, x, p):
        return super().logits(x, p | {"embedding.weight": p["embedding.weight"] + self.behind})


class BucketGatheredOnFirstRank(Conforming):
    """One of the updated parameters is gathered on the first rank, and is not sent to the other ranks."""

    def update(self, state, gradients, factor):
        self.before = state["parameters"]
        return super().update(state, gradients, factor)

    def gather_updated(self, name, shard):
        whole, first = super().gather_updated(name, shard), self.axis_rank(self.shard_axis) == 0
        return self.before[name] + first * (whole - self.before[name]) if name.endswith(".down.weight") else whole


class EveryRankLoadsFirstShard(Conforming):
    """The number of the shard defaults to 0, so that every rank of the shard axis loads the same one."""

    def place(self, parameters, mesh):
        return super().place({name: self.first_shard(whole) for name, whole in parameters.items()}, mesh)

    def first_shard(self, whole):
        rows, size = len(whole), self.mesh.size(self.shard_axis)
        return whole[np.arange(rows) % -(-rows // size)]
