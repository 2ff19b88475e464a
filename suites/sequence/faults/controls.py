"""Negative controls: unusual but correct programs."""

from __future__ import annotations

from dataclasses import replace

from suites.tensor.faults import Conforming


class PassedTheOtherWay(Conforming):
    """Keys and values go round the ring backwards."""

    def pass_on(self, x):
        return self.pass_by(x, -1)


class MergedInOtherOrder(Conforming):
    """The arriving partial result is the first operand of the merge instead of the second."""

    def merge(self, old, new):
        return super().merge(new, old)


class SumThenSplit(Conforming):
    """A reduce-scatter is a sum of everything, of which each rank keeps its tokens."""

    def scatter_tokens(self, y):
        return self.split_to_tensor(self.reduce_from_tensor(y), self.token_dim)

    def transfers(self):
        for transfer in super().transfers():
            forward = (transfer.kind, transfer.phase) == ("reduce_scatter", "forward")
            yield replace(transfer, kind="all_reduce") if forward else transfer
