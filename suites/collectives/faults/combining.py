"""Bugs and controls of gradients that are summed in buckets."""

from __future__ import annotations

from suites.collectives.faults import Conforming


class LastBucketDropped(Conforming):
    """The bucket that is not full when the loop ends is never summed: those of the first layers."""

    def summed_bucket(self, gradients):
        return gradients if tuple(gradients) == self.buckets[-1] else super().summed_bucket(gradients)


class CutInAnotherOrder(Conforming):
    """A bucket is filled from the last parameter on, and cut from the first one on."""

    def cut(self, flat, like):
        return super().cut(flat, dict(reversed(like.items())))


class SummedAgain(Conforming):
    """Gradients that buckets have summed already are summed once more, one by one."""

    def axes_of_gradient(self, name):
        return self.gradient_axes


class OverOneAxisOfTwo(Conforming):
    """Buckets are summed over the first axis of the data alone."""

    @property
    def gradient_axes(self):
        return super().gradient_axes[:1]


class BegunAfterwards(Conforming):
    """Gradients are noted, but no bucket is begun before the backward pass is over: right values, no overlap."""

    def note(self, name, g):
        self.ready[name] = g.detach()


class BegunTooEarly(Conforming):
    """A bucket is summed before its last gradient is there: what lies in that place is summed instead."""

    def to_compute(self, parameters):
        self.ready = _WithZeros(parameters)
        return super().to_compute(parameters)

    def is_ready(self, names):
        return super().is_ready(names[:-1])


class _WithZeros(dict):
    """Gradients that are there; zeros for those that are not."""

    def __init__(self, parameters):
        super().__init__()
        self.parameters = parameters

    def __missing__(self, name):
        return 0 * self.parameters[name].detach()


class OtherBuckets(Conforming):
    """What is declared is the budget of buckets of its own size."""

    def transfers(self):
        return self.sends[self.contract.model.kind].of(self, self.habits)


class SmallBuckets(OtherBuckets):
    """A control: buckets of another size."""

    @property
    def bucket_bytes(self):
        return 256


class OneBucket(OtherBuckets):
    """A control: all gradients in one bucket."""

    @property
    def bucket_bytes(self):
        return 2**20
