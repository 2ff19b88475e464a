"""Stages that are not balanced by cost. Framework-neutral."""

from __future__ import annotations

from functools import cached_property

from conformance.contract.implementation import Unsupported
from suites.pipeline.layout import PipelineLayout
from suites.pipeline.partition import Cuts, balanced
from suites.pipeline.schedule import ScheduleError


class EmbeddingAlone(PipelineLayout):
    """Stage 0 is the embedding, where there are others; these are balanced by cost."""

    @cached_property
    def cuts(self) -> Cuts:
        stages, costs = self.schedule.stages, [unit.cost for unit in self.stage_units]
        if stages == 1:
            return 0, len(costs)
        try:
            return 0, *(1 + cut for cut in balanced(costs[1:], stages - 1))
        except ScheduleError as failure:
            raise Unsupported(str(failure)) from failure
