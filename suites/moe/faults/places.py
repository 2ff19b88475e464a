"""Places of experts that are counted over all rows of a batch, on ranks that have some of them."""

from __future__ import annotations

from reference.architecture import places
from suites.tensor.faults import Conforming


class PlacesOfOwnRows(Conforming):
    """Every rank counts its own rows, and an expert has its share of places for each of them."""

    def counts_of_devices(self, own):
        return own[None]

    def row_place(self):
        return 0

    def places_in_slice(self, choices):
        return places(self.contract.model, choices.shape[0] * choices.shape[1])


class OwnRowsInFront(Conforming):
    """The prefix over the ranks takes in the rank itself, whose choices then count twice."""

    def row_place(self):
        return super().row_place() + 1


class OtherRanksIgnored(Conforming):
    """The number of places is that of the whole batch, and every rank gives them to its own rows."""

    def counts_of_devices(self, own):
        return own[None]

    def row_place(self):
        return 0


class RankOfAnotherAxis(Conforming):
    """A rank takes its place along the expert axis for that along the data axis, and the reverse."""

    def row_place(self):
        place = 0
        for axis, taken in zip(self.row_axes, reversed(self.row_axes), strict=True):
            place = place * self.mesh.size(axis) + self.axis_rank(taken) % self.mesh.size(axis)
        return place
