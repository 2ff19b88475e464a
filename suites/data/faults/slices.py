"""Slices of the batch, and reductions that come too early, too often or not at all."""

from __future__ import annotations

from suites.tensor.faults import Conforming


class WipedWhenSlicesDiffer(Conforming):
    """A slice of another size makes new buffers, and what was added up is gone."""

    def add_gradients(self, summed, new):
        return new if self.contract.recipe.shares else super().add_gradients(summed, new)


class OneGradientReplaced(Conforming):
    """The gradient that is kept elsewhere is replaced by that of the next slice; all others are added up."""

    def add_gradients(self, summed, new):
        return super().add_gradients(summed, new) | {"embedding.weight": new["embedding.weight"]}


class AveragedOverSlices(Conforming):
    """This stage divides what it has added up by the number of slices; sums of losses need no mean."""

    def accumulate(self, parameters, batch):
        gradients, sums, rows = super().accumulate(parameters, batch)
        return {name: g / self.contract.recipe.accumulation for name, g in gradients.items()}, sums, rows


class BucketReadTooEarly(Conforming):
    """The reduction reads a bucket before the gradient is written: it holds that of the tensor before."""

    def slice_gradients(self, parameters, batch):
        gradients, sums, rows = super().slice_gradients(parameters, batch)
        early = {name: gradients[name.replace(".value.", ".key.")] for name in gradients}
        return early, sums, rows


class ScatteredWithoutSum(Conforming):
    """Each rank keeps its shard of its own gradient."""

    def scatter_gradient(self, name, g):
        return self.own_shard(name, self.round_gradient(g))


class ShardsSummedTwice(Conforming):
    """The gather's gradient is scattered with a sum, and that sum is taken once more."""

    def scatter_gradient(self, name, g):
        return super().scatter_gradient(name, g) * self.shard_size()
