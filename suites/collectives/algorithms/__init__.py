"""Algorithms by name: each is one module of functions that write schedules, and a formula for what they cost."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from suites.collectives.algorithms import direct, halving, hierarchical, ring, tree
from suites.collectives.schedule import ALL_GATHER, ALL_REDUCE, REDUCE_SCATTER, SCATTER_AND_GATHER, Cost, Schedule, both

ALGORITHMS: dict[str, ModuleType] = {
    "ring": ring,
    "tree": tree,
    "halving": halving,
    "hierarchical": hierarchical,
    "direct": direct,
}
UNEQUAL = (tree, halving)  # some of their ranks send more than others


@cache
def schedule(algorithm: str, collective: str, ranks: int) -> Schedule:
    """Raises ScheduleError where the algorithm has none for so many ranks."""
    blocks, rounds = ranks, getattr(ALGORITHMS[algorithm], collective)(ranks)
    if collective == ALL_REDUCE:
        blocks, rounds = rounds
    return Schedule(collective=collective, ranks=ranks, blocks=blocks, rounds=tuple(rounds))


def cost(algorithm: str, collective: str, ranks: int) -> Cost:
    """By formula; see the module of the algorithm. Where all ranks send the same, two collectives cost their sum."""
    module = ALGORITHMS[algorithm]
    if collective == SCATTER_AND_GATHER and module not in UNEQUAL:
        scatter, gather = module.cost(REDUCE_SCATTER, ranks), module.cost(ALL_GATHER, ranks)
        return both(scatter, gather, scatter.blocks + gather.blocks)
    value: Cost = module.cost(collective, ranks)
    return value
