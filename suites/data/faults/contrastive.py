"""Losses that couple all rows of a batch, on ranks that have some of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from suites.tensor.faults import Conforming


class Quiet(Conforming):
    """What is communicated is not declared: values must tell."""

    def declare(self):
        return replace(super().declare(), traffic=None)


class OwnNegatives(Quiet):
    """Every rank tells its rows from its own rows only."""

    def gather_rows(self, x):
        return x

    def first_row(self, rows):
        return 0


class GatheredInOtherOrder(Conforming):
    """What two axes divide is gathered over the coarser of them first."""

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
