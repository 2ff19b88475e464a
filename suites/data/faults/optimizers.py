"""Optimizers that take a shard for the whole, or one group of parameters for another."""

from __future__ import annotations

from dataclasses import replace

from suites.tensor.faults import Conforming


class OneGroup(Conforming):
    """The optimizer is built of one group: biases and scales of norms are decayed too."""

    def weight_decay(self, name):
        return self.contract.recipe.weight_decay


class GroupsOfFirstRank(Conforming):
    """Decay groups are made from parameter names, which only the first rank of an axis has."""

    def weight_decay(self, name):
        own, everywhere = super().weight_decay(name), self.contract.recipe.weight_decay
        return everywhere + (self.grouping_rank() == 0) * (own - everywhere)

    def grouping_rank(self):
        return self.axis_rank("fsdp")


class GroupsOfFirstStage(GroupsOfFirstRank):
    """The same along the pipeline."""

    def grouping_rank(self):
        rank = self.pipeline_rank
        return rank() if callable(rank) else rank


class FlatShardsUndecayed(Conforming):
    """Tensors of one dim are not decayed, and every shard is flat."""

    def weight_decay(self, name):
        return 0.0


class NormsOfOwnShards(Conforming):
    """Every rank takes the norms of its own shards."""

    def sum_squares(self, axes, squares):
        return squares


class NormsOfShardsAdded(Conforming):
    """Roots are taken on each rank, and norms are added in place of squares."""

    def sum_squares(self, axes, squares):
        return super().sum_squares(axes, squares**0.5) ** 2


class OneRatioForAll(Conforming):
    """All tensors lie in one buffer, and the norms are those of the buffer."""

    def tensor_norms(self, values):
        norms = super().tensor_norms(values)
        return dict.fromkeys(norms, sum(norm * norm for norm in norms.values()) ** 0.5)


class NormsOfGathered(Conforming):
    """A control: whole tensors are gathered, and every rank takes their norms."""

    def tensor_norms(self, values):
        return {name: (self.whole_matrix(name, x) ** 2).sum() ** 0.5 for name, x in values.items()}

    def declare(self):
        return replace(super().declare(), traffic=None)
