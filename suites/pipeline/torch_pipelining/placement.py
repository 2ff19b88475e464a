"""Where torch's schedules put the stages: a loop over the ranks, once or several times, or a V."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from suites.pipeline.layout import PipelineLayout
from suites.pipeline.schedule import Schedule


class TorchPlacement(PipelineLayout):
    """Law: the holders are those that the schedule itself gives its stages when it is made."""

    chunks: ClassVar[int] = 1  # stages of a rank
    style: ClassVar[str] = "loop"  # or "v"

    @property
    def holders(self) -> tuple[int, ...]:
        rounds = [range(self.ranks)] * self.chunks
        if self.style == "v":
            rounds[1::2] = [range(self.ranks - 1, -1, -1)] * (self.chunks // 2)
        return tuple(rank for ranks in rounds for rank in ranks)

    @cached_property
    def schedule(self) -> Schedule:
        """Holders and microbatches; torch decides when a rank does what, so the lanes are empty."""
        microbatches, lanes = self.contract.recipe.microbatches, ((),) * self.ranks
        return Schedule(name=self.schedule_name, holders=self.holders, microbatches=microbatches, lanes=lanes)

    def timeline(self) -> None:
        """Not known before torch runs it."""
