"""Hierarchical: two levels, nodes of g consecutive ranks, a ring inside each node and rings across nodes.

Law: a reduce-scatter inside the nodes, after which rank i of a node answers for the blocks of all ranks i, then one
among the ranks i of all nodes; an all-gather runs the other way, across nodes first. So most bytes stay inside a node.
Cost, with h = k / g nodes: (g - 1) + (h - 1) rounds, (g - 1) n / g bytes inside and (h - 1) n / k across, twice that
for an all-reduce. Refused where k has no divisor.
Source: Mikami et al., Massively Distributed SGD: ImageNet/ResNet-50 Training in a Flash (2018), 2D-torus all-reduce.
"""

from __future__ import annotations

import math

from suites.collectives.algorithms import ring
from suites.collectives.schedule import Cost, Round, ScheduleError, same, together


def node_size(k: int) -> int:
    """The largest divisor of k up to its root."""
    sizes = [g for g in range(2, math.isqrt(k) + 1) if k % g == 0]
    if not sizes:
        raise ScheduleError(f"{k} devices make no two levels: hierarchical needs a number that has a divisor.")
    return sizes[-1]


def reduce_scatter(k: int) -> list[Round]:
    g = node_size(k)
    inside = together(ring.scatter_rounds(node, _by_place(k, g)) for node in _nodes(k, g))
    across = together(ring.scatter_rounds(line, _single(line)) for line in _by_place(k, g))
    return inside + across


def all_gather(k: int) -> list[Round]:
    g = node_size(k)
    across = together(ring.gather_rounds(line, _single(line)) for line in _by_place(k, g))
    inside = together(ring.gather_rounds(node, _by_place(k, g)) for node in _nodes(k, g))
    return across + inside


def all_reduce(k: int) -> tuple[int, list[Round]]:
    return k, reduce_scatter(k) + all_gather(k)


def _nodes(k: int, g: int) -> list[tuple[int, ...]]:
    return [tuple(range(start, start + g)) for start in range(0, k, g)]


def _by_place(k: int, g: int) -> list[tuple[int, ...]]:
    """For each place in a node, the ranks that have it: they are also the blocks that it answers for."""
    return [tuple(range(place, k, g)) for place in range(g)]


def _single(ranks: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [(rank,) for rank in ranks]


def cost(collective: str, k: int) -> Cost:
    g = node_size(k)
    h = k // g
    times = 2 if collective == "all_reduce" else 1
    rounds, blocks = (g - 1) + (h - 1), (g - 1) * h + (h - 1)
    return same(rounds=times * rounds, messages=times * rounds, blocks=times * blocks)
