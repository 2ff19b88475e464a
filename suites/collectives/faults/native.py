"""Bugs of single collectives, written with what the classes of both frameworks have."""

from __future__ import annotations

from suites.collectives.faults import Conforming


class NotSummed(Conforming):
    """Every device keeps what it has summed itself."""

    def all_reduce(self, x, *reduction, **by):
        return x


class SummedTwice(Conforming):
    """A sum is summed again: it comes out k times too large, and its gradient too."""

    def all_reduce(self, x, *reduction, **by):
        return super().all_reduce(super().all_reduce(x, *reduction, **by), *reduction, **by)


class OverOtherAxis(Conforming):
    """The collective runs over the other axes of the mesh."""

    @property
    def axes_used(self):
        return tuple(axis for axis in self.lane_axes if self.mesh.size(axis) > 1)


class OverAllAxes(Conforming):
    """A sum runs over the whole mesh, over the lanes of others too."""

    @property
    def axes_used(self):
        return tuple(axis for axis in self.mesh.axes if self.mesh.size(axis) > 1)


class DividedByAllDevices(Conforming):
    """A mean is divided once more, by the devices of the other axes."""

    def by_all_reduce(self, x):
        return super().by_all_reduce(x) / self.size(self.lane_axes)


class MeanNotDivided(Conforming):
    """The sum of means is not divided by the number of devices."""

    def by_all_reduce(self, x):
        return super().by_all_reduce(x) * self.devices


class PermutedTheOtherWay(Conforming):
    """Every message travels from its destination to its source."""

    def permute(self, x, pairs):
        return super().permute(x, [(destination, source) for source, destination in pairs])


class NotPermuted(Conforming):
    """Nothing is sent: every device goes on with what it has."""

    def permute(self, x, pairs):
        return x


class LargestForSmallest(Conforming):
    """The largest is taken where the smallest is asked for."""

    def extreme(self, x, reduction):
        return super().extreme(x, "max")


class OpenEndClosed(Conforming):
    """The last device sends to the first, where nothing should arrive."""

    def permute(self, x, pairs):
        return super().permute(x, [*pairs, (self.devices - 1, 0)])


class BroadcastFromFirst(Conforming):
    """The first device of a group broadcasts, whoever has the row."""

    def broadcast(self, x, source):
        return super().broadcast(x, 0)


class PaddingTakesPart(Conforming):
    """The zeros that fill up the last devices take part in the maximum."""

    def are_rows(self):
        return super().are_rows() | True


class PaddingIsTrained(Conforming):
    """What fills up the last devices has a gradient, is updated, and joins the sum of the next step."""

    def without_padding(self, x):
        return x


class ThroughFloat32(Conforming):
    """Whole numbers are carried as float32."""

    def seen(self, collective, x, *dims):
        if not self.is_whole(x):
            return super().seen(collective, x, *dims)
        return self.cast(super().seen(collective, self.cast(x, "float32"), *dims), "int32")


class AxesNestedTheOtherWay(Conforming):
    """Parts are gathered and scattered over several axes in the wrong order: the first axis counts fastest."""

    @property
    def axes_used(self):
        return super().axes_used[::-1]
