"""Losses that are normalised, scaled or drawn by what one device happens to have."""

from __future__ import annotations

from suites.tensor.faults import Conforming


class MeanOfMeans(Conforming):
    """Each device divides by the valid elements of its own rows; the means are averaged."""

    def accumulate(self, parameters, batch):
        gradients, sums, rows = super().accumulate(parameters, batch)
        valid = super().normalizer(sums["weight"])
        means = {name: total / valid for name, total in sums.items() if name != "weight"}
        return {name: g / valid for name, g in gradients.items()}, means | {"weight": sums["weight"]}, rows

    def normalizer(self, elements):
        return self.size(self.data_axes)


class ZTermOfLocalCount(Conforming):
    """One term of the loss is weighted by this device's share of valid tokens."""

    def loss_sums(self, token_losses, mask, observed):
        entropy, z = token_losses
        return super().loss_sums((entropy, z * mask.mean()), mask, observed)


class UnscaledWithoutScale(Conforming):
    """The optimizer divides gradients by a loss scale by which no loss was multiplied."""

    def update(self, state, gradients, factor):
        return super().update(state, gradients, factor / 65536)


class MaskOfPlaceOnDevice(Conforming):
    """A mask is that of the row's place on its device, so that every device drops the same."""

    def keep_mask(self, site, seeds):
        return super().keep_mask(site, (0 * seeds + 1).cumsum(0))


class MaskOfTensorRank(Conforming):
    """A replicated residual stream is masked with a draw of each tensor rank's own."""

    def keep_mask(self, site, seeds):
        return super().keep_mask(site, seeds + self.tensor_rank())
