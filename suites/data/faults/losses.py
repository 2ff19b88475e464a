"""Losses that are normalised, scaled or seeded with the local data of one device."""

from __future__ import annotations

from dataclasses import replace

from suites.tensor.faults import Conforming
from suites.training.state_layout import OF_INPUTS


class MeanOfMeans(Conforming):
    """Each device divides by the valid elements of its own rows; the means are averaged."""

    def accumulate(self, parameters, batch):
        gradients, sums, rows = super().accumulate(parameters, batch)
        valid = super().normalizer(sums["weight"])
        means = {name: total / valid for name, total in sums.items() if name != "weight"}
        rows = {name: value / valid if name.startswith(OF_INPUTS) else value for name, value in rows.items()}
        return {name: g / valid for name, g in gradients.items()}, means | {"weight": sums["weight"]}, rows

    def normalizer(self, elements):
        return self.size(self.data_axes)


class ZTermOfLocalCount(Conforming):
    """One term of the loss is divided by this device's valid tokens, and averaged over the devices."""

    def loss_sums(self, token_losses, mask, observed):
        entropy, z = token_losses
        whole, alike = self.sum_over_data(mask.sum()), self.size(self.data_axes) * mask.sum()
        return super().loss_sums((entropy, z * whole / alike.clip(1)), mask, observed)

    def declare(self):
        return replace(super().declare(), traffic=None)  # the whole count is known; knowing it is not part of the fault


class UnscaledWithoutScale(Conforming):
    """The optimizer divides gradients by a loss scale by which no loss was multiplied."""

    def update(self, state, gradients, factor):
        return super().update(state, gradients, factor / 65536)


class SeedsOfFirstRank(Conforming):
    """Every data rank has the seeds of the first one, so that all of them drop the same."""

    def keep_mask(self, site, seeds):
        return super().keep_mask(site, self.sum_over(("data",), seeds * (self.axis_rank("data") == 0)))

    def declare(self):
        return replace(super().declare(), traffic=None)  # the transfer of the seeds is not part of the fault


class MaskOfTensorRank(Conforming):
    """A replicated residual stream is masked with a draw of each tensor rank's own."""

    def keep_mask(self, site, seeds):
        return super().keep_mask(site, seeds + self.tensor_rank())
