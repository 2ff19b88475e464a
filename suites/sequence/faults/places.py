"""Positions, documents, labels and dropout masks that restart on every shard."""

from __future__ import annotations

from suites.tensor.faults import Conforming


class _FromZero(Conforming):
    """While a method runs, positions count from the first token at hand."""

    local = False

    def block_positions(self):
        return _shifted(super().block_positions(), self.local)

    def stream_positions(self):
        return _shifted(super().stream_positions(), self.local)

    def locally(self, method, *arguments):
        self.local = True
        try:
            return method(*arguments)
        finally:
            self.local = False


def _shifted(positions, local):
    return positions - positions[0] if local else positions


class RotationRestarts(_FromZero):
    """Rotary positions start at 0 on every shard; within a shard they are right."""

    def rotate(self, x):
        return self.locally(super().rotate, x)


class SinusoidsRestart(_FromZero):
    """Sinusoidal positions start at 0 on every shard."""

    def add_positions(self, x):
        return self.locally(super().add_positions, x)


class SameMaskOnEveryShard(_FromZero):
    """The mask of dropout is that of the first tokens of a row, on every shard."""

    def keep_mask(self, site, seeds):
        return self.locally(super().keep_mask, site, seeds)


class MaskOfRank(Conforming):
    """Every tensor rank draws with a seed of its own where the draws of all are one row's."""

    def keep_mask(self, site, seeds):
        return super().keep_mask(site, seeds + self.tensor_rank())


class LabelsShiftedInsideShard(Conforming):
    """The last token of a shard is to predict the first of the same shard."""

    def first_of_next(self, first):
        return first


class StartsCountedPerShard(Conforming):
    """The running count of documents begins anew on every shard."""

    def count_before(self, document_starts):
        return document_starts.cumsum(1)


class RankOfTensorAxis(Conforming):
    """The place along the tensor axis is taken for the place along the sequence axis, where that has several."""

    def context_rank(self):
        return self.axis_rank("tensor") if self.mesh.size("sequence") > 1 else 0
