"""Load balancing: how stage units are grouped into stages so that the slowest stage is as fast as possible."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import accumulate, pairwise

from suites.pipeline.schedule import ScheduleError

Cuts = tuple[int, ...]  # the first stage unit of every stage, and the number of stage units at the end


def balanced(costs: Sequence[float], stages: int) -> Cuts:
    """The cuts with the smallest maximum of stage costs, by dynamic programming; every stage has a stage unit or more.

    Among equals the later stages are the shorter ones. Time O(stages * units^2).
    Raises ScheduleError for fewer stage units than stages.
    Source: the linear partition problem (Skiena, The Algorithm Design Manual, section 10.7); PipeDream, section 3.1.
    """
    _require(len(costs), stages)
    sums = [0.0, *accumulate(costs)]

    @cache
    def best(end: int, left: int) -> tuple[float, Cuts]:
        """The first `end` stage units as `left` stages."""
        if left == 1:
            return sums[end], (0, end)
        candidates = []
        for cut in range(left - 1, end):
            largest, cuts = best(cut, left - 1)
            candidates.append((max(largest, sums[end] - sums[cut]), (*cuts, end)))
        return min(candidates, key=lambda candidate: (candidate[0], [-cut for cut in candidate[1]]))

    return best(len(costs), stages)[1]


def greedy(costs: Sequence[float], stages: int) -> Cuts:
    """Cuts made one after the other: a stage takes stage units until one more would carry it farther past its share.

    Its share is the mean cost of the stages that are left. Raises ScheduleError for fewer stage units than stages.
    """
    _require(len(costs), stages)
    cuts, start = [0], 0
    for left in range(stages, 1, -1):
        share, end, held = sum(costs[start:]) / left, start + 1, costs[start]
        while end < len(costs) - left + 1 and abs(held + costs[end] - share) <= abs(held - share):
            held, end = held + costs[end], end + 1
        cuts.append(end)
        start = end
    return (*cuts, len(costs))


def stage_costs(costs: Sequence[float], cuts: Cuts) -> list[float]:
    """What each stage costs."""
    return [sum(costs[start:end]) for start, end in pairwise(cuts)]


def _require(stage_units: int, stages: int) -> None:
    if stage_units < stages:
        raise ScheduleError(f"A model of {stage_units} stage units cannot be cut into {stages} stages: each needs one.")
