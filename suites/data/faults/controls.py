"""Negative controls: unusual, and right."""

from __future__ import annotations

from dataclasses import replace

from suites.tensor.faults import Conforming


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
        for one in super().transfers():
            if one.phase == "update" and one.elements > 1 and one.kind == "all_reduce" and len(one.axes) > 1:
                yield from (replace(one, axes=(axis,)) for axis in one.axes)
            else:
                yield one
