"""Evaluation on a data set that does not divide."""

from __future__ import annotations

import numpy as np

from suites.tensor.faults import Conforming


class FillersCounted(Conforming):
    """The padding rows of the last round count as valid."""

    def filled(self, held_out):
        full, rows = super().filled(held_out), len(held_out["mask"])
        fillers_B1 = np.arange(len(full["mask"]))[:, None] >= rows
        return full | {"mask": full["mask"] + fillers_B1}


class WrapsAround(Conforming):
    """The last round is padded with the first rows, which then count twice, as in torch's DistributedSampler."""

    def filled(self, held_out):
        order = np.arange(self.rounds * self.rows_at_once) % len(held_out["mask"])
        return {key: value[order] for key, value in held_out.items()}


class LastRoundDropped(Conforming):
    """Rows that make no whole round are left out."""

    def filled(self, held_out):
        rows = len(held_out["mask"])
        return {key: value[: rows - rows % self.rows_at_once] for key, value in held_out.items()}


class DropsOut(Conforming):
    """Dropout stays active during evaluation."""

    evaluating = property(lambda self: False, lambda self, value: None)

    def round_sums(self, parameters, part):
        return super().round_sums(parameters, part | {"seeds": part["targets"][:, 0]})


class OwnRowsOnly(Conforming):
    """Every rank reports the metrics of its own rows."""

    def sum_over_data(self, x):
        return x if self.evaluating else super().sum_over_data(x)


class EvaluatedBeforeUpdate(Conforming):
    """The model that is evaluated is that of the step before."""

    def evaluated(self, before, after):
        return before


class DealtOut(Conforming):
    """A control: rows are distributed to the ranks round-robin."""

    def filled(self, held_out):
        full, parts = super().filled(held_out), self.size(self.row_axes)
        order = np.arange(len(full["mask"])).reshape(-1, parts).T.reshape(-1)
        return {key: value[order] for key, value in full.items()}
