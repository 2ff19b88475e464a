"""What is drawn, saved and loaded."""

from __future__ import annotations

import numpy as np

from suites.data.faults.state import EveryRankLoadsFirstShard
from suites.tensor.faults import Conforming


class ShardsDrawnAlike(EveryRankLoadsFirstShard):
    """Every shard is drawn from the same key."""

    draws = False

    def initialize(self, seed, mesh):
        self.draws = True
        return super().initialize(seed, mesh)

    def first_shard(self, whole):
        return super().first_shard(whole) if self.draws else whole


class CountLost(Conforming):
    """The number of updates is not in the checkpoint, and begins anew."""

    def load(self, folder, mesh):
        state = super().load(folder, mesh)
        return state | {"count": 0 * state["count"]}


class OnlyFirstShardSaved(Conforming):
    """Shards are taken for copies of the first, and only that one is written."""

    def saved(self, state):
        for key, value in super().saved(state):
            kept = 1 * value
            if len(key.split("/")) > 1:
                kept[-(-len(value) // self.mesh.size(self.shard_axis)) :] = 0
            yield key, kept


class PaddingSavedAsContent(Conforming):
    """Optimizer slots are cut out of one flat buffer as if no shard had padding at its end."""

    def saved(self, state):
        for key, value in super().saved(state):
            moved, padding = 1 * value, 0
            if key.startswith("optimizer/"):
                padding = -len(value) % self.mesh.size(self.shard_axis)
            if padding:
                moved[padding:] = 1 * value[:-padding]
            yield key, moved


class ClearedWhileWriting(Conforming):
    """The writer clears the state when the first piece is written, and goes on writing from it."""

    def saved(self, state):
        for number, (key, value) in enumerate(super().saved(state)):
            yield key, value if number == 0 else 0 * value


class DamageIgnored(Conforming):
    """A checkpoint that cannot be read is no error: training begins anew."""

    def load(self, folder, mesh):
        try:
            return super().load(folder, mesh)
        except Exception:
            return super().place({name: np.ones(shape) for name, shape in self.contract.shapes.items()}, mesh)
