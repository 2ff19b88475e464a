"""Reductions over the tensor axis that are missing, doubled or misplaced."""

from __future__ import annotations

from suites.tensor.faults import Conforming


class HeadNormGradientPartial(Conforming):
    """The scale of a head norm, shared by all heads, keeps the gradient from this rank's heads."""

    def sum_gradient(self, name, g):
        return self.sum_over_data(g) if self.is_partial(name) else super().sum_gradient(name, g)


class ReplicatedGradientReducedTwice(Conforming):
    """The gradient of a replicated norm is whole on every rank, and is summed over the ranks all the same."""

    def sum_gradient(self, name, g):
        g = super().sum_gradient(name, g)
        return self.sum_over_tensor(g) if name.endswith("_norm.scale") and not self.is_partial(name) else g


class MixedRegionReducedWhole(Conforming):
    """The query enters the block, key and value do not; then the gradient of the norm before them is summed whole."""

    def enter_block(self, x):
        return x

    def column_linear(self, x, name, p):
        entered = x if name.endswith((".key", ".value")) else self.copy_to_tensor(x)
        return super().column_linear(entered, name, p)

    def sum_gradient(self, name, g):
        g = super().sum_gradient(name, g)
        return self.sum_over_tensor(g) if name.endswith(".attention_norm.scale") else g


class RepeatedKeyGradientNotSummed(Conforming):
    """Every rank stores the key head that it shares with others, and keeps the gradient from its own query heads."""

    def sum_gradient(self, name, g):
        return self.sum_over_data(g) if self.is_repeated(name) else super().sum_gradient(name, g)


class BiasAddedOnEveryRank(Conforming):
    """The bias of a row-parallel layer joins the partial sums of every rank."""

    def row_linear(self, x, name, p):
        return self.leave_block(x @ p[f"{name}.weight"] + p[f"{name}.bias"])


class PositionsAddedToPartialSums(Conforming):
    """The positions, whole on every rank, join the partial sums of the embedding."""

    def look_up(self, tokens, p):
        return super().add_positions(super().look_up(tokens, p))

    def add_positions(self, x):
        return x


class EntryWithoutGradientSum(Conforming):
    """The operator at the entry of a block knows nothing of the axis: identity forward, identity backward."""

    def copy_to_tensor(self, x):
        return x


class SummedOverReplicatedAxis(Conforming):
    """What leaves a block is summed over an axis on which it is replicated."""

    def leave_block(self, y):
        return self.reduce_from(super().leave_block(y), "sequence")


class BlockOutputNotSummed(Conforming):
    """Partial sums of one block go on as if they were whole."""

    def leave_block(self, y):
        return y


class WholeGradientAveragedOnceMore(Conforming):
    """Right values, redundant communication: a whole gradient on every rank is summed and divided by their number."""

    def sum_gradient(self, name, g):
        g = super().sum_gradient(name, g)
        return g if self.placements(name) else self.sum_over_tensor(g) / self.tensor_size()


class DataGradientNotSummed(Conforming):
    """Every data rank keeps the gradient from its own rows."""

    def sum_gradient(self, name, g):
        return g
