"""Losses that use only a part of the vocabulary, or count masked elements."""

from __future__ import annotations

from suites.tensor.faults import Conforming


class SmoothingOverLocalVocabulary(Conforming):
    """Label smoothing takes the mean logit of this rank's ids."""

    def mean_logit(self, logits):
        return self.real_sum(logits) / (self.contract.model.vocabulary / self.tensor_size())


class LocalDenominator(Conforming):
    """The denominator of the softmax is that of this rank's ids."""

    def denominator(self, exponentials):
        return exponentials.sum(-1)


class LargestLogitNotSubtracted(Conforming):
    """The largest logit is not subtracted before the exponential: right until it overflows."""

    def largest_logit(self, logits):
        return 0 * super().largest_logit(logits)


class PaddingEntersSoftmax(Conforming):
    """The padding ids of the last ranks take part in the softmax, with a logit of zero."""

    def real_ids(self):
        return super().real_ids() | True


class ZTermLeftOut(Conforming):
    """The z term of the loss is configured and never added."""

    def token_losses(self, logits, targets):
        entropy, z = super().token_losses(logits, targets)
        return entropy, 0 * z


class MeanOfMeans(Conforming):
    """Each data rank divides by its own number of valid elements; the means are averaged."""

    def accumulate(self, parameters, batch):
        gradients, sums, rows = super().accumulate(parameters, batch)
        valid = super().normalizer(sums["weight"])
        means = {name: total / valid for name, total in sums.items() if name != "weight"}
        return {name: g / valid for name, g in gradients.items()}, means | {"weight": sums["weight"]}, rows

    def normalizer(self, elements):
        return self.mesh.size("data")
