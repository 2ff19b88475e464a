"""Ring: every rank sends to the next one only.

Law: in round s of a reduce-scatter rank r sends on what it has of block r - 1 - s, which is whole when it reaches its
rank; in round s of an all-gather it sends on block r - s. An all-reduce is both.
Cost: k - 1 rounds of n / k each, twice that for an all-reduce: (k - 1) n / k bytes per rank, which no algorithm
undercuts, and a latency that grows as k.
Source: Patarasuk and Yuan, Bandwidth Optimal All-reduce Algorithms for Clusters of Workstations (2009); Thakur,
Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH (2005), ring algorithms.
"""

from __future__ import annotations

from collections.abc import Sequence

from suites.collectives.schedule import Cost, Message, Round, same

Groups = Sequence[tuple[int, ...]]  # of blocks: group i ends on, or begins at, the i-th member


def scatter_rounds(members: Sequence[int], groups: Groups) -> list[Round]:
    """Reduce-scatter of groups of blocks among some ranks."""
    return _rounds(members, groups, first=1, adds=True)


def gather_rounds(members: Sequence[int], groups: Groups) -> list[Round]:
    """All-gather of groups of blocks among some ranks."""
    return _rounds(members, groups, first=0, adds=False)


def _rounds(members: Sequence[int], groups: Groups, first: int, adds: bool) -> list[Round]:
    k = len(members)
    return [
        tuple(
            Message(
                source=members[i],
                destination=members[(i + 1) % k],
                blocks=groups[(i - first - s) % k],
                adds=adds,
            )
            for i in range(k)
        )
        for s in range(k - 1)
    ]


def reduce_scatter(k: int) -> list[Round]:
    return scatter_rounds(range(k), [(block,) for block in range(k)])


def all_gather(k: int) -> list[Round]:
    return gather_rounds(range(k), [(block,) for block in range(k)])


def all_reduce(k: int) -> tuple[int, list[Round]]:
    return k, reduce_scatter(k) + all_gather(k)


def cost(collective: str, k: int) -> Cost:
    times = 2 if collective == "all_reduce" else 1
    return same(rounds=times * (k - 1), messages=times * (k - 1), blocks=times * (k - 1))
