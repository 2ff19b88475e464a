"""Stages: consecutive stage units of a model as one function. A model says what each of its stage units computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from suites.pipeline.layout import PipelineLayout
from suites.training.state_layout import OF_INPUTS

Named = dict[str, Any]  # arrays of either framework by name

EVERYWHERE = ("slice.", "routing.")  # keys of a batch, or of what is known of it, by how they begin
INPUT_GRADIENTS = f"{OF_INPUTS}inputs"  # the name under which the gradient of the inputs is observed


class Stages(PipelineLayout, ABC):
    """What a stage computes, and what it takes from the batch. Framework-neutral."""

    @abstractmethod
    def stage_unit(self, name: str, p: Named, x: Named, batch: Named, observed: Named) -> Named:
        """One stage unit: activations that enter it -> activations that leave it.

        What passes through is handed on. The last stage unit returns `loss` and `weight`, sums over its rows.
        """

    @abstractmethod
    def from_batch(self, batch: Named) -> tuple[Named, Named]:
        """What enters the first stage: floating-point inputs, and integer tensors that pass through all others."""

    def stage(self, stage: int, p: Named, x: Named, batch: Named) -> tuple[Named, Named, Named]:
        """(activations, observations with rows, sums); the last stage has sums in place of activations."""
        observed: Named = {}
        for unit in self.units_of_stage(stage):
            x = self.stage_unit(unit.name, p, x, batch, observed)
        sums = self.stage_sums(observed, batch)
        if stage < self.schedule.stages - 1:
            return x, observed, sums
        return {}, observed, sums | x | ({"loss": sums["loss"] + x["loss"]} if "loss" in sums else {})

    def stage_sums(self, observed: Named, batch: Named) -> Named:
        """What a stage adds to sums over all rows, taken out of what it observed: its share of a loss, its metrics."""
        return {name: observed.pop(name) for name in list(observed) if name.startswith("metrics/")}

    def forward(self, p: Named, batch: Named) -> tuple[Any, Any, Named]:
        """All stage units one after the other: the model as it is without a pipeline."""
        x, passthrough = self.from_batch(batch)
        observed: Named = {}
        for unit in self.stage_units:
            x = self.stage_unit(unit.name, p, x, batch | passthrough, observed)
        return x["loss"], x["weight"], observed

    def at_ends(self, stage: int, batch: Named) -> Named:
        """What a stage takes from the batch itself: ids at the first one, targets and mask at the last one.

        What is known of the whole slice, and the routing that a batch prescribes, any stage may ask for.
        """
        first, last = {"tokens"}, {"targets", "mask"} | ({"tokens"} if self.contract.model.shift_labels else set())
        wanted = (first if stage == 0 else set()) | (last if stage == self.schedule.stages - 1 else set())
        wanted |= {key for key in batch if key.startswith(EVERYWHERE)}
        return {key: value for key, value in batch.items() if key in wanted}
