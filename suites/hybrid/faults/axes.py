"""An axis that is forgotten, counted twice, or mistaken for another: the same mixins for both frameworks."""

from __future__ import annotations

import numpy as np

from suites.tensor.faults import Conforming


class NormMissesExperts(Conforming):
    """Squares of gradients are summed over the axes of dense parameters, and not over the expert axis."""

    def sum_over_model(self, x):
        return self.sum_over(tuple(axis for axis in self.model_axes if axis != "expert"), x)


class NormMissesShards(Conforming):
    """Squares of gradients are summed over all axes but the one that divides what is stored."""

    def sum_over_model(self, x):
        return self.sum_over(tuple(axis for axis in self.model_axes if axis != "fsdp"), x)


class TermsWithoutSequence(Conforming):
    """Auxiliary losses are means over the tokens of all rows, but of one shard of each row only."""

    def note_terms(self, *given):
        self.sum_over_data = lambda x: self.sum_over(self.row_axes, x)
        super().note_terms(*given)
        del self.sum_over_data


class InsertedPaddingRouted(Conforming):
    """Padding that was inserted to divide a row over the axes is routed like a token."""

    def mixture(self, x, batch, name, p, observed):
        attention_mask = batch["attention_mask"] + (self.block_positions() < 0)
        return super().mixture(x, {**batch, "attention_mask": attention_mask}, name, p, observed)


class RouterGradientPerTensorRank(Conforming):
    """The router counts as what meets other tokens on each rank of the tensor axis: its gradient is summed there."""

    def is_partial(self, name):
        return self.tensor_size() > 1 and "tensor" not in self.placements(name)


class RankOfAnotherAxis(Conforming):
    """A rank finds its tokens by its place along the expert axis instead of the sequence axis."""

    def context_rank(self):
        return self.axis_rank("expert") % self.context_size()


class TermsOfMicrobatch(Conforming):
    """Auxiliary losses are means over the rows of a microbatch, and are added up as if they were shares of a mean."""

    def real_rows(self, batch):
        return (batch["attention_mask"] > 0).any(1).sum()


class ScannedInAnotherOrder(Conforming):
    """The parameters of layer i are those of layer i + 1, and of the last one those of the first."""

    def scanned(self, x, batch, layers):
        order = np.roll(np.arange(self.contract.model.layers), -1)
        return super().scanned(x, batch, {name: value[order] for name, value in layers.items()})


class AnnotatedTwice(Conforming):
    """The residual stream is annotated once more, as it is already."""

    def scanned(self, x, batch, layers):
        x, seen = super().scanned(self.on_rows(x), batch, layers)
        return self.on_rows(x), seen
