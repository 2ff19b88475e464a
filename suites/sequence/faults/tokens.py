"""Tokens over the tensor axis: gradients of what is replicated, gathers and scatters that are undone wrongly."""

from __future__ import annotations

from suites.tensor.faults import Conforming


def _norm(name: str) -> str:
    """`layers.0.attention_norm.scale` -> `attention_norm`; empty for what is not a norm of the residual stream."""
    module = name.split(".")[-2]
    return module if module in ("attention_norm", "feedforward_norm", "final_norm") else ""


class NormGradientsPartial(Conforming):
    """Norms see this rank's tokens only, and nobody sums their gradients over the ranks."""

    def sum_gradient(self, name, g):
        return self.sum_over_data(g) if _norm(name) else super().sum_gradient(name, g)


class FinalNormGradientPartial(Conforming):
    """The same, for the last norm alone."""

    def sum_gradient(self, name, g):
        return self.sum_over_data(g) if _norm(name) == "final_norm" else super().sum_gradient(name, g)


class AdapterGradientPartial(Conforming):
    """The second factor of an adapter, behind a reduce-scatter, keeps the gradient from this rank's tokens."""

    def sum_gradient(self, name, g):
        return self.sum_over_data(g) if ".adapter_out." in name else super().sum_gradient(name, g)


class BiasGradientPartial(Conforming):
    """A bias that is added to sharded tokens keeps the gradient from this rank's tokens."""

    def sum_gradient(self, name, g):
        return self.sum_over_data(g) if name.endswith(".output.bias") else super().sum_gradient(name, g)


class NormGradientSummedTwice(Conforming):
    """The gradient of a norm is summed over the ranks, and then once more."""

    def sum_gradient(self, name, g):
        g = super().sum_gradient(name, g)
        return self.sum_over_tensor(g) if _norm(name) == "feedforward_norm" else g


class GradientSummedAtBothGates(Conforming):
    """The input of a block is gathered, which already sums its gradient, and the gradient is summed again."""

    def enter_block(self, x):
        return self.copy_to_tensor(super().enter_block(x))


class QueryGradientSummedTwice(Conforming):
    """Of three projections that share their input, one sums its gradient besides the gather."""

    def column_linear(self, x, name, p):
        return super().column_linear(self.copy_to_tensor(x) if name.endswith(".query") else x, name, p)


class GatherUndoneBySplit(Conforming):
    """The gradient of a gather along tokens is this rank's block of its own gradient, not the sum of all ranks'."""

    def gather_tokens(self, x):
        return self.gather_from_tensor(x, self.token_dim)


class ScatterGradientSummed(Conforming):
    """The gradient of a reduce-scatter is gathered, and summed over the ranks besides."""

    def scatter_tokens(self, y):
        return super().scatter_tokens(self.copy_to_tensor(y))


class ChunksCountedForwards(Conforming):
    """After i hops a device takes the chunk at hand for that of the rank i places further: right for two ranks only."""

    def chunk_at_hand(self, step):
        return (self.tensor_rank() + step) % self.tensor_size()
