"""What is summed, scaled and counted over stages, microbatches and slices: the same mixins for both frameworks."""

from __future__ import annotations

import numpy as np

from suites.pipeline.schedule import WEIGHT_BACKWARD
from suites.tensor.faults import Conforming


class TiedGradientsNotSummed(Conforming):
    """First and last stage update the tied embedding, each with the gradient of its own use."""

    def sum_tied(self, *given):
        return given[-1]


class NormPerStage(Conforming):
    """Every stage clips by the norm of its own gradients."""

    def sum_over_model(self, x):
        return self.sum_over(self.model_axes, x)


class LossOnLastStageOnly(Conforming):
    """The number of valid tokens is not passed on: all stages but the last divide by 1."""

    def sum_over_data(self, x):
        return self.sum_over(self.data_axes, x)


class NotSummedOverReplicas(Conforming):
    """Each replica of the pipeline keeps the gradients of its own rows."""

    gradient_axes = ()


class ScaledAgainBySlice(Conforming):
    """Every slice divides all that was added up so far by the number of microbatches."""

    def add_gradients(self, summed, new):
        old = {name: g / self.schedule.microbatches for name, g in summed.items()}
        return super().add_gradients(old, new)


class WeightGradientsNotScaled(Conforming):
    """Gradients are scaled to a mean over microbatches, but not the deferred weight gradients."""

    def accumulated(self, gradients, new, kind, rank):
        return super().accumulated(gradients, self.unscaled(new, kind), kind, rank)

    def accumulate_gradients(self, new, kind, now):
        super().accumulate_gradients(self.unscaled(new, kind), kind, now)

    def unscaled(self, new, kind):
        return {name: g * self.schedule.microbatches for name, g in new.items()} if kind == WEIGHT_BACKWARD else new


class MeanOfMicrobatchMeans(Conforming):
    """Each microbatch divides by its own number of valid tokens."""

    def stage(self, stage, p, x, batch):
        out, observed, sums = super().stage(stage, p, x, batch)
        if "loss" in sums:
            weight = sums["weight"] + (sums["weight"] == 0)
            sums = sums | {name: value / weight for name, value in sums.items()}
        return out, observed, sums


class LayersOfNeighbour(Conforming):
    """Later chunks count their layers from an offset that is off by one: each computes with its neighbour's weights."""

    def stage(self, stage, p, x, batch):
        layers = [unit.name for unit in self.units_of_stage(stage) if unit.name.startswith("layers.")]
        if stage >= self.ranks and len(layers) > 1:
            following = dict(zip(layers, layers[1:] + layers[:1], strict=True))
            p = {_renamed(name, following): value for name, value in p.items()}
        return super().stage(stage, p, x, batch)


def _renamed(name, layers):
    kind, number, *leaf = name.split(".")
    return ".".join((layers[f"{kind}.{number}"], *leaf)) if f"{kind}.{number}" in layers else name


class PassthroughRollsOn(Conforming):
    """The attention mask that is passed through belongs to the next row of the microbatch."""

    def stage(self, stage, p, x, batch):
        if stage > 0 and "attention_mask" in batch:
            attention_mask = batch["attention_mask"]
            batch = {**batch, "attention_mask": attention_mask[np.roll(np.arange(len(attention_mask)), 1)]}
        return super().stage(stage, p, x, batch)
