"""The gradient norm and clipping: counted twice, counted in part, or not used."""

from __future__ import annotations

from suites.tensor.faults import Conforming


class ClippedOnFirstRank(Conforming):
    """The first tensor rank clips, the others do not."""

    def clip_factor(self, norm):
        return 1 + (self.tensor_rank() == 0) * (super().clip_factor(norm) - 1)


class ReplicatedCountedOnEveryRank(Conforming):
    """One sum over the ranks for all parameters, replicated ones among them."""

    def squared_norm(self, name, g):
        return (g * g).sum()


class ShardsMissedInNorm(Conforming):
    """One sharded parameter is taken for a replicated one: only the first rank's shard counts."""

    def squared_norm(self, name, g):
        squares = super().squared_norm(name, g)
        return squares * (self.tensor_rank() == 0) if name.endswith(".down.weight") else squares


class NormOfLocalShards(Conforming):
    """Every rank clips with the norm of what it stores."""

    def sum_over_model(self, x):
        return x


class NormsSummed(Conforming):
    """The root is taken on each rank, and the norms are added instead of their squares."""

    def global_norm(self, gradients):
        return self.sum_over_model(sum(self.squared_norm(name, g) for name, g in gradients.items()) ** 0.5)


class LargestNormTaken(Conforming):
    """The largest norm of any rank stands for the norm of all of them."""

    def global_norm(self, gradients):
        return self.max_over_tensor(sum(self.squared_norm(name, g) for name, g in gradients.items()) ** 0.5)


class ClippingDisabled(Conforming):
    """The norm is reported, the gradients are not scaled."""

    def clip_factor(self, norm):
        return norm / norm
