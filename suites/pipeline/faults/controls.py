"""Negative controls: unusual but correct programs."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from suites.pipeline.partition import greedy
from suites.pipeline.schedule import BACKWARD
from suites.tensor.faults import Conforming


class OtherPlan(Conforming):
    """What is declared is the budget of a plan of its own."""

    def traffic(self):
        own = next(part for part in type(self).__mro__ if OtherPlan in part.__bases__)
        budget = self.pipeline_budget.laid(own).scheduled(self.schedule_name)
        return budget.traffic(self.contract, self.mesh, self.dtype, self.habits)


class BackwardInOrder(OtherPlan):
    """Microbatches pass backward in the order in which they passed forward, not in the reverse."""

    @cached_property
    def schedule(self):
        right = super().schedule
        lanes = tuple(_in_order(lane) for lane in right.lanes)
        return replace(right, lanes=lanes)


def _in_order(lane):
    forward = tuple(work for work in lane if work.kind != BACKWARD)
    return forward + tuple(sorted(work for work in lane if work.kind == BACKWARD))


class CutGreedily(OtherPlan):
    """Stages are cut by the greedy partitioner: other layers lie on other ranks."""

    @cached_property
    def cuts(self):
        return greedy([unit.cost for unit in self.stage_units], self.schedule.stages)


class FirstStagesShort(OtherPlan):
    """Every stage but the last has one stage unit."""

    @cached_property
    def cuts(self):
        return (*range(self.schedule.stages), len(self.stage_units))
