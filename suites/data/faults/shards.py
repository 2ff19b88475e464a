"""Shards that are gathered, scattered or counted over the wrong axis, in another order, or once too often."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from suites.data.layout import in_chunks
from suites.tensor.faults import Conforming


class AveragedOverShards(Conforming):
    """The scatter over the shard axis takes the mean of its ranks, the sum over the replicas is a sum."""

    def scatter_gradient(self, name, g):
        return super().scatter_gradient(name, g) / self.shard_size()


class ScatteredInReverse(Conforming):
    """Ranks are numbered from the other end where gradients are scattered: each gets another one's shard."""

    def scatter_gradient(self, name, g):
        chunks = in_chunks(np.arange(len(g)), self.shard_size())  # -1, the last row, fills up what does not divide
        return super().scatter_gradient(name, g[chunks[::-1].reshape(-1)])


class SquaresSummedOverReplicas(Conforming):
    """The squares of shards are summed over all ranks, and each shard has a copy on every replica."""

    def sum_over_model(self, x):
        return self.sum_over(("data",), super().sum_over_model(x))


class OrderOfAxesExchanged(Conforming):
    """Where two axes divide the same dim, shards are cut as if the inner axis were the outer one."""

    def sharded_positions(self, name):
        positions, dim, others = super().sharded_positions(name), self.shard_dim(name), self.others(name)
        if others == 1 or self.shard_size() == 1:
            return positions
        right = positions.get(dim, np.arange(self.contract.shapes[name][dim]))
        return positions | {dim: right.reshape(self.shard_size(), others, -1).swapaxes(0, 1).reshape(-1)}


class GatheredBeforeUpdate(Conforming):
    """One updated parameter is gathered before the update: the model computes with that of the step before."""

    def read_parameters(self, state):
        slots, rate = state["optimizer"]["momentum"], self.contract.recipe.learning_rate
        current = super().read_parameters(state)
        stale = [name for name in current if name.endswith(".down.weight")]
        return current | {name: current[name] + rate * self.gather(name, slots[name]) for name in stale}

    def declare(self):
        return replace(super().declare(), traffic=None)  # gathering the momentum is no part of the fault


class ReducedBeforeLastSlice(Conforming):
    """One bucket is reduced before the last slice of the batch is added to it."""

    def slice_gradients(self, parameters, batch):
        gradients, sums, rows = super().slice_gradients(parameters, batch)
        name = "final_norm.scale"
        return gradients | {name: gradients[name] * (not self.is_last(len(batch["mask"])))}, sums, rows

    def is_last(self, rows):
        """Of several slices, the last one is the smallest."""
        whole = self.contract.batch_shapes["mask"][0] // self.size(self.row_axes)
        return rows < whole and rows == self.slice_sizes(whole)[-1]
