"""Direct: every rank sends to every other one at once.

Law: a reduce-scatter sends block d to rank d, an all-gather sends one's own block to all; an all-reduce is both. A
block is summed by one rank and then copied, so all ranks have the same bits.
Cost: one round of k - 1 messages of n / k, two for an all-reduce: as many bytes as a ring and the fewest rounds, on a
network that can carry k (k - 1) messages at once.
Source: Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH (2005): pairwise
exchange, here in one round.
"""

from __future__ import annotations

from suites.collectives.schedule import Cost, Message, Round, same


def reduce_scatter(k: int) -> list[Round]:
    return [tuple(Message(source=s, destination=d, blocks=(d,), adds=True) for s, d in _pairs(k))]


def all_gather(k: int) -> list[Round]:
    return [tuple(Message(source=s, destination=d, blocks=(s,), adds=False) for s, d in _pairs(k))]


def all_reduce(k: int) -> tuple[int, list[Round]]:
    return k, reduce_scatter(k) + all_gather(k)


def _pairs(k: int) -> list[tuple[int, int]]:
    """(source, destination) by distance: the messages of one distance are one permutation."""
    return [(source, (source + distance) % k) for distance in range(1, k) for source in range(k)]


def cost(collective: str, k: int) -> Cost:
    times = 2 if collective == "all_reduce" else 1
    return same(rounds=times, messages=times * (k - 1), blocks=times * (k - 1))
