"""Negative controls: unusual but correct programs."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

from suites.tensor.faults import Conforming
from suites.training.traffic import Transfer


class SumThenShard(Conforming):
    """A reduce-scatter is a sum, of which each rank keeps its shard."""

    def scatter_gradient(self, name, g):
        g = self.round_gradient(g)
        return self.own_shard(name, self.reduced(g, lambda x: self.sum_over((self.shard_axis,), x)))

    def declare(self):
        return replace(super().declare(), traffic=None)


class SummedAxisByAxis(Conforming):
    """Gradients are summed over one axis of the data after the other."""

    def sum_gradient(self, name, g):
        for axis in self.gradient_axes:
            g = self.reduced(g, lambda x, axis=axis: self.sum_over((axis,), x))
        return g

    def transfers(self):
        for transfer in super().transfers():
            is_reduced = transfer.phase == "update" and transfer.kind == "all_reduce" and transfer.elements > 1
            if is_reduced and len(transfer.axes) > 1:
                yield from (replace(transfer, axes=(axis,)) for axis in transfer.axes)
            else:
                yield transfer


class ReplicasBeforeShards(Conforming):
    """Gradients are summed over the replicas first, whole, and then scattered."""

    def scatter_gradient(self, name, g):
        g = self.reduced(self.round_gradient(g), lambda x: self.sum_over(self.gradient_axes, x))
        return super().scatter_gradient(name, g)

    def sum_gradient(self, name, g):
        return g

    def declare(self):
        return replace(super().declare(), traffic=None)


class GatheredTogether(Conforming):
    """All parameters are gathered before the first layer and kept for the backward pass."""

    def forward(self, p, batch):
        return super().forward(
            {name: super(GatheredTogether, self).gather_parameter(name, p[name]) for name in p}, batch
        )

    def gather_parameter(self, name, shard):
        return shard  # it is whole already

    def forgotten(self, shards, whole):
        return nullcontext()

    def transfers(self):
        for transfer in super().transfers():
            if transfer.kind != "all_gather" or transfer.phase != "backward":
                yield transfer


class GradientsInOneBucket(Conforming):
    """All gradients are summed in one call, as one flat buffer."""

    def transfers(self):
        buckets: dict[tuple[str, ...], Transfer] = {}
        for transfer in super().transfers():
            if transfer.phase == "update" and transfer.kind == "all_reduce" and transfer.elements > 1:
                before = buckets.get(transfer.axes, replace(transfer, elements=0))
                buckets[transfer.axes] = replace(transfer, elements=before.elements + transfer.elements)
            else:
                yield transfer
        yield from buckets.values()
