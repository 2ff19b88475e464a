"""What is summed, scaled and counted over the axes: the same mixins for both frameworks."""

from __future__ import annotations

from suites.moe.layout import is_expert
from suites.tensor.faults import Conforming


class ExpertGradientsMultiplied(Conforming):
    """Gradients of experts, which have seen all tokens already, are scaled by the size of the expert axis."""

    def sum_gradient(self, name, g):
        g = super().sum_gradient(name, g)
        return g * self.expert_size() if is_expert(name) else g


class ExpertGradientsOverDenseGroup(Conforming):
    """Gradients of experts are summed over the axes of all others: those of different experts mix."""

    def axes_of_gradient(self, name):
        return self.gradient_axes


class RouterGradientOfOwnRows(Conforming):
    """The gradient of the router counts as an expert's: it is not summed over the expert axis."""

    def axes_of_gradient(self, name):
        axes = super().axes_of_gradient(name)
        return tuple(axis for axis in axes if axis != self.expert_axis) if ".router." in name else axes


class ExpertNormAveraged(Conforming):
    """Squares of the gradients of experts are averaged over the expert axis, not summed."""

    def squared_norm(self, name, g):
        squares = super().squared_norm(name, g)
        return squares / self.expert_size() if is_expert(name) else squares


class ExpertEntryWithoutGradientSum(Conforming):
    """Features of an expert are sharded; what reads them in the backward pass gets this rank's part of its gradient."""

    def copy_to_tensor(self, x):
        return x


class RouterGradientPartial(Conforming):
    """Gates meet what is still a partial sum over features, and what becomes of that in the backward pass is forgotten.

    Forward is right: the sum over features follows the sum over experts.
    """

    def mixed(self, *given):
        self.reduce_from_tensor = lambda y: y
        partial = super().mixed(*given)
        del self.reduce_from_tensor
        return self.reduce_from_tensor(partial)


class SharedExpertCountedPerRank(Conforming):
    """The shared expert, whole on every rank, joins sums that are taken over the tensor axis once more."""

    def feedforward(self, x, name, p):
        y = super().feedforward(x, name, p)
        return y * self.tensor_size() if name.endswith(".shared") else y


class CombineOverTokens(Conforming):
    """Expert outputs are summed over the expert axis, although each rank has other tokens at the same place."""

    def mixed(self, x, gates, admitted, name, p):
        return self.reduce_from(super().mixed(x, gates, admitted, name, p), self.expert_axis)


class TermsOfOwnTokens(Conforming):
    """Terms of the loss are means over the tokens of the rank; they are added up as if each were a share."""

    def note_terms(self, *given):
        self.sum_over_data = lambda x: x
        super().note_terms(*given)
        del self.sum_over_data


class TermsNotDividedBySlices(Conforming):
    """The terms of every slice are added in full, while the loss is a mean over all of them."""

    def with_terms(self, loss, weight, observed):
        return super().with_terms(loss, weight, self.scaled(observed))

    def scaled(self, observed):
        slices = self.contract.recipe.accumulation
        return {name: value * slices if name.startswith("terms/") else value for name, value in observed.items()}


class BiasFromOwnLoad(Conforming):
    """The router bias moves by the load of the rank's own rows."""

    def accumulate(self, *given):
        gradients, sums, rows = super().accumulate(*given)
        self.own = {name: value for name, value in sums.items() if name.startswith("metrics/load/")}
        return gradients, sums, rows

    def adjusted(self, state, sums):
        return super().adjusted(state, sums | self.own)


class BiasMovedPerSlice(Conforming):
    """The router bias moves by its rate for every slice of the batch, not once for a step."""

    def adjusted(self, state, sums):
        for _ in range(self.contract.recipe.accumulation):
            state = super().adjusted(state, sums)
        return state
