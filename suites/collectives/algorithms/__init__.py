"""Algorithms by name: each is one module of functions that write schedules, and a formula for what they cost."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from suites.collectives.algorithms import direct, halving, hierarchical, ring, tree
from suites.collectives.schedule import ALL_REDUCE, Cost, Schedule

ALGORITHMS: dict[str, ModuleType] = {
    "ring": ring,
    "tree": tree,
    "halving": halving,
    "hierarchical": hierarchical,
    "direct": direct,
}


@cache
def schedule(algorithm: str, collective: str, ranks: int) -> Schedule:
    """Raises ScheduleError where the algorithm has none for so many ranks."""
    blocks, rounds = ranks, getattr(ALGORITHMS[algorithm], collective)(ranks)
    if collective == ALL_REDUCE:
        blocks, rounds = rounds
    return Schedule(collective=collective, ranks=ranks, blocks=blocks, rounds=tuple(rounds))


def cost(algorithm: str, collective: str, ranks: int) -> Cost:
    """By formula; see the module of the algorithm."""
    value: Cost = ALGORITHMS[algorithm].cost(collective, ranks)
    return value
