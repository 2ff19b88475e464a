"""Which rank holds what: stages are cut by cost, and every rank has the parameters of its stages. Framework-neutral."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

from conformance.contract.implementation import Unsupported
from conformance.contract.placements import Owned, Placements
from conformance.contract.timeline import Timeline
from suites.pipeline.drawing import timeline as drawn
from suites.pipeline.partition import Cuts, balanced
from suites.pipeline.schedule import Schedule, ScheduleError, timed
from suites.pipeline.schedules import SCHEDULES
from suites.pipeline.stage_units import StageUnit, stage_units
from suites.training.state_layout import StateLayout

# Whole numbers of the batch that layers read: every message passes them on beside the activations.
PASSTHROUGH = ("attention_mask", "document_starts", "seeds")


class PipelineLayout(StateLayout):
    """Stages of a contract's model under a schedule. A class of an implementation names its schedule."""

    pipeline_axis: ClassVar[str] = "pipeline"
    schedule_name: ClassVar[str]  # its name in SCHEDULES

    altered: tuple[str, int] | None = None  # a change to the schedule: operator and number of the event

    def alter(self, operator: str, site: int) -> None:
        self.altered = (operator, site)

    @property
    def ranks(self) -> int:
        return self.mesh.size(self.pipeline_axis)

    @cached_property
    def schedule(self) -> Schedule:
        try:
            return SCHEDULES[self.schedule_name](self.ranks, self.contract.recipe.microbatches)
        except ScheduleError as failure:
            raise Unsupported(str(failure)) from failure

    def timeline(self) -> Timeline | None:
        """The schedule as it is planned: what the report draws."""
        return drawn(timed(self.schedule))

    @cached_property
    def stage_units(self) -> tuple[StageUnit, ...]:
        shape = self.contract.batch_shapes["mask"]
        return stage_units(self.contract.model, shape[1] if len(shape) > 1 else 1)

    @cached_property
    def cuts(self) -> Cuts:
        try:
            return balanced([unit.cost for unit in self.stage_units], self.schedule.stages)
        except ScheduleError as failure:
            raise Unsupported(str(failure)) from failure

    def units_of_stage(self, stage: int) -> tuple[StageUnit, ...]:
        return self.stage_units[self.cuts[stage] : self.cuts[stage + 1]]

    def stage_parameters(self, stage: int) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for unit in self.units_of_stage(stage) for name in unit.parameters))

    def rank_stages(self, rank: int) -> tuple[int, ...]:
        return tuple(stage for stage, holder in enumerate(self.schedule.holders) if holder == rank)

    @cached_property
    def owners(self) -> Mapping[str, tuple[int, ...]]:
        """Parameter -> the ranks that hold it, in the order of the forward pass."""
        holders: dict[str, set[int]] = {}
        for stage, holder in enumerate(self.schedule.holders):
            for name in self.stage_parameters(stage):
                holders.setdefault(name, set()).add(holder)
        return {name: tuple(sorted(ranks)) for name, ranks in holders.items()}

    @cached_property
    def tied(self) -> tuple[str, ...]:
        """The parameters that two ranks hold: each has the gradient of its own use of them."""
        return tuple(name for name, ranks in self.owners.items() if len(ranks) > 1)

    def writer(self, name: str) -> int:
        """The rank whose copy of a parameter goes into a checkpoint."""
        return self.owners[name][0]

    def rank_parameters(self, rank: int) -> tuple[str, ...]:
        """Those first that another rank holds too, then in the order of the forward pass."""
        names = [name for name, ranks in self.owners.items() if rank in ranks]
        return tuple(sorted(names, key=lambda name: name not in self.tied))

    def placements(self, name: str) -> Placements:
        """A parameter is owned by the ranks of its stages, and sharded there as other axes divide it."""
        own = super().placements(name)
        if self.ranks == 1 or name not in self.contract.shapes:
            return own
        return {**own, self.pipeline_axis: Owned(*self.owners[name])}

    def require_pipelined(self) -> None:
        """Raise Unsupported where the recipe or the sizes of the contract make no pipeline on this mesh."""
        if self.contract.recipe.optimizer in ("muon", "lamb"):
            raise Unsupported("A pipeline is trained with SGD or AdamW here: Muon and LAMB need whole tensors.")
        self.require_whole_rows(self.contract.batch_shapes["mask"][0])
        for size in self.device_slices:
            self.require_microbatches(size)
        assert self.cuts  # raises where there are more stages than stage units

    def require_microbatches(self, rows: int) -> None:
        """Raise Unsupported where the rows of a slice make no equal microbatches."""
        microbatches = self.contract.recipe.microbatches
        if rows % microbatches:
            raise Unsupported(f"{rows} rows cannot be divided into {microbatches} microbatches of equal size.")
