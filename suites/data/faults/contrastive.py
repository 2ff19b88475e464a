"""Losses that couple all rows of a batch, where each rank holds some of the rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from suites.tensor.faults import Conforming


class Quiet(Conforming):
    """Communication is not declared, so that the fault must be found by the values."""

    def declare(self):
        return replace(super().declare(), traffic=None)


class OwnNegatives(Quiet):
    """Every rank contrasts its rows with its own rows only."""

    def gather_rows(self, x):
        return x

    def first_row(self, rows):
        return 0


class GatheredInOtherOrder(Conforming):
    """Rows sharded over two axes are gathered over the outer axis first."""

    def gather_rows(self, x):
        for axis in self.row_axes:
            x = self.gather_over(axis, x)
        return x


class GatheredFromNextRank(Conforming):
    """Gathered rows begin with those of the next rank."""

    def gather_rows(self, x):
        every = super().gather_rows(x)
        following = np.roll(np.arange(len(every)), -len(x))
        return every[following]
