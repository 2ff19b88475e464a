"""Losses of sharded rows: counted by shard, or scaled with the size of an axis."""

from __future__ import annotations

from suites.tensor.faults import Conforming


class GradientScaledByContext(Conforming):
    """The loss is multiplied by the size of the axis for a mean over it, and the gradient is summed."""

    def sum_gradient(self, name, g):
        return super().sum_gradient(name, g) * self.context_size()


class MeanOfShardMeans(Conforming):
    """Each shard of the sequence divides by its own number of valid tokens; the means are averaged."""

    def accumulate(self, parameters, batch):
        gradients, sums, rows = super().accumulate(parameters, batch)
        valid = super().normalizer(sums["weight"])
        means = {name: total / valid for name, total in sums.items() if name != "weight"}
        return {name: g / valid for name, g in gradients.items()}, means | {"weight": sums["weight"]}, rows

    def normalizer(self, elements):
        return self.context_size()


class ZTermMissesContext(Conforming):
    """The loss is scaled for a mean over the axis, and one of its terms is not scaled back."""

    def token_losses(self, logits, targets):
        entropy, z = super().token_losses(logits, targets)
        return entropy, z / self.context_size()


class ZTermOfLocalCount(Conforming):
    """One term of the loss is weighted by this shard's share of valid tokens."""

    def loss_sums(self, token_losses, mask, observed):
        entropy, z = token_losses
        return super().loss_sums((entropy, z * mask.mean()), mask, observed)
