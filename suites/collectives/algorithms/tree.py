"""Binomial tree with its root at rank 0.

Law: rank r, whose lowest set bit is 2^t, is a child of r - 2^t, and its subtree are the ranks r to r + 2^t - 1. A
reduction goes up the tree, a broadcast down; a gather and a scatter move the blocks of each subtree.
Cost, with p = ceil(log2 k): an all-reduce takes 2 p rounds, in each of which a rank sends all n bytes at most once; the
busiest rank sends p n. An all-gather is a gather and a broadcast, a reduce-scatter a reduction and a scatter; of both,
one after the other, the root is busiest: k - 1 blocks to its children, then k blocks to each of them. Few rounds, many
bytes: for small operands.
Source: Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH (2005): binomial
trees for broadcast, reduce, gather and scatter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from suites.collectives.schedule import SCATTER_AND_GATHER, Cost, Message, Round, both

BlocksOf = Callable[[int], tuple[int, ...]]  # of the message to or from a child


def depth(k: int) -> int:
    return (k - 1).bit_length()


def reduce_scatter(k: int) -> list[Round]:
    everything = tuple(range(k))
    scatter = [_down(k, t, partial(_subtree, t=t, k=k)) for t in reversed(range(depth(k)))]
    return _reduction(k, everything) + scatter


def all_gather(k: int) -> list[Round]:
    gather = [_up(k, t, partial(_subtree, t=t, k=k), adds=False) for t in range(depth(k))]
    return gather + _broadcast(k, tuple(range(k)))


def all_reduce(k: int) -> tuple[int, list[Round]]:
    """The operand is not cut: there is one block."""
    return 1, _reduction(k, (0,)) + _broadcast(k, (0,))


def _reduction(k: int, blocks: tuple[int, ...]) -> list[Round]:
    return [_up(k, t, lambda child: blocks, adds=True) for t in range(depth(k))]


def _broadcast(k: int, blocks: tuple[int, ...]) -> list[Round]:
    return [_down(k, t, lambda child: blocks) for t in reversed(range(depth(k)))]


def _children(k: int, t: int) -> range:
    """The ranks whose lowest set bit is 2^t."""
    return range(2**t, k, 2 ** (t + 1))


def _subtree(child: int, t: int, k: int) -> tuple[int, ...]:
    return tuple(range(child, min(child + 2**t, k)))


def _up(k: int, t: int, blocks_of: BlocksOf, adds: bool) -> Round:
    return tuple(
        Message(source=child, destination=child - 2**t, blocks=blocks_of(child), adds=adds) for child in _children(k, t)
    )


def _down(k: int, t: int, blocks_of: BlocksOf) -> Round:
    return tuple(
        Message(source=child - 2**t, destination=child, blocks=blocks_of(child), adds=False)
        for child in _children(k, t)
    )


def cost(collective: str, k: int) -> Cost:
    """In one program for all ranks every message of a round is as long as its longest."""
    p = depth(k)
    if collective == SCATTER_AND_GATHER:
        return both(cost("reduce_scatter", k), cost("all_gather", k), p * k + k - 1)
    subtrees = sum(min(2**t, k - 2**t) for t in range(p))  # the longest messages of a gather or scatter, round by round
    if collective == "all_reduce":
        return Cost(rounds=2 * p, messages=p, blocks=p, permutes=2 * p, permuted=2 * p)
    permuted = p * k + subtrees
    if collective == "all_gather":  # the root broadcasts k blocks p times
        return Cost(rounds=2 * p, messages=p, blocks=p * k, permutes=2 * p, permuted=permuted)
    largest = max(2**t if 2 ** (t + 1) <= k else k - 2**t for t in range(p))  # subtree below the root
    return Cost(rounds=2 * p, messages=p, blocks=k + largest - 1, permutes=2 * p, permuted=permuted)
