"""What goes into a checkpoint of stages, and what does not: the same mixins for both frameworks."""

from __future__ import annotations

from suites.tensor.faults import Conforming


class OnlyFirstStageSaved(Conforming):
    """Only the first rank of the axis writes, so the parameters of other stages are not saved."""

    def saved(self, state):
        for key, value in super().saved(state):
            *_, name = key.split("/")
            yield key, value if 0 in self.owners.get(name, (0,)) else 0 * value


# Control.


class TiedSavedByLast(Conforming):
    """Of the copies of a tied parameter the last one is written."""

    def writer(self, name):
        return self.owners[name][-1]
