"""Stages: consecutive segments of a model as one function. A model says what each of its segments computes.

b: rows of a microbatch
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from suites.pipeline.arrangement import RIDING, PipelineArrangement
from suites.training.torch_manual import CollectiveTraining
from suites.training.torch_state import Named

SUMS = ("loss", "weight", "metrics/cross_entropy", "metrics/z_loss")  # of the last stage


class Stages(PipelineArrangement, CollectiveTraining):
    """What a stage computes, and what it takes from the batch."""

    @abstractmethod
    def segment(self, name: str, p: Named, x: Named, batch: Named, observed: Named) -> Named:
        """One segment: activations that enter it -> activations that leave it.

        What passes through is handed on. The last segment returns `loss` and `weight`, sums over its rows.
        """

    def stage(self, stage: int, p: Named, x: Named, batch: Named) -> tuple[Named, Named, Named]:
        """(activations, observations with rows, sums); the last stage has sums in place of activations."""
        observed: Named = {}
        for segment in self.stage_segments(stage):
            x = self.segment(segment.name, p, x, batch, observed)
        metrics = {name: observed.pop(name) for name in list(observed) if name.startswith("metrics/")}
        if stage < self.order.stages - 1:
            return x, observed, {}
        return {}, observed, x | metrics

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        """All segments one after the other: the model as it is without a pipeline."""
        x, riding = self.from_batch(batch)
        observed: Named = {}
        for segment in self.segments:
            x = self.segment(segment.name, p, x, batch | riding, observed)
        return x["loss"], x["weight"], observed

    def from_batch(self, batch: Named) -> tuple[Named, Named]:
        """What enters the first stage: floating-point inputs, and the whole numbers that ride along to all others."""
        x = {"x": batch["inputs"]} if "inputs" in batch else {}
        return x, {key: batch[key].long() for key in RIDING if key in batch}

    def at_ends(self, stage: int, batch: Named) -> Named:
        """What a stage takes from the batch itself: ids at the first one, targets and mask at the last one."""
        first, last = {"tokens"}, {"targets", "mask"} | ({"tokens"} if self.contract.model.shift_labels else set())
        wanted = (first if stage == 0 else set()) | (last if stage == self.order.stages - 1 else set())
        return {key: value for key, value in batch.items() if key in wanted}

    def microbatches(self, batch: Named) -> list[Named]:
        """The rows of a slice, cut into microbatches."""
        number = self.order.microbatches
        parts = zip(*(value.chunk(number) for value in batch.values()), strict=True)
        return [dict(zip(batch, values, strict=True)) for values in parts]
