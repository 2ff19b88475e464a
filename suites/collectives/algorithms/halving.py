"""Recursive halving and doubling (Rabenseifner's algorithm).

Law, for 2^p core ranks: in a reduce-scatter rank r sends the half of what it still answers for to r xor 2^t, t from
p - 1 down to 0, and adds the other half; in an all-gather it sends all that it has to r xor 2^t, t from 0 up. An
all-reduce is both. Where k is no power of two, the k - 2^p ranks beyond the core first hand everything to the core rank
2^p below, which answers for both, and are given their result at the end.
Cost: p rounds, (k - 1) n / k bytes, twice that for an all-reduce; as few bytes as a ring in far fewer rounds. Beyond a
power of two two more rounds, of up to n bytes each.
Source: Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH (2005): recursive
doubling, recursive halving, and Rabenseifner's algorithm for all-reduce.
"""

from __future__ import annotations

from collections.abc import Sequence

from suites.collectives.schedule import SCATTER_AND_GATHER, Cost, Message, Round, both

Groups = Sequence[tuple[int, ...]]  # the blocks that each core rank answers for


def _core(k: int) -> tuple[int, int]:
    """(p, ranks beyond the 2^p core ranks)."""
    p = k.bit_length() - 1
    return p, k - 2**p


def reduce_scatter(k: int) -> list[Round]:
    p, extra = _core(k)
    groups = [_answers_for(r, p, extra) for r in range(2**p)]
    back = [Message(source=r, destination=2**p + r, blocks=(2**p + r,), adds=False) for r in range(extra)]
    return _some([_fold(p, extra, tuple(range(k)))], extra) + _halving(p, groups) + _some([tuple(back)], extra)


def all_gather(k: int) -> list[Round]:
    p, extra = _core(k)
    groups = [_answers_for(r, p, extra) for r in range(2**p)]
    up = [Message(source=2**p + r, destination=r, blocks=(2**p + r,), adds=False) for r in range(extra)]
    back = [_all_but(2**p + r, r, k) for r in range(extra)]
    return _some([tuple(up)], extra) + _doubling(p, groups) + _some([tuple(back)], extra)


def all_reduce(k: int) -> tuple[int, list[Round]]:
    """2^p blocks: those beyond the core have no part in the middle."""
    p, extra = _core(k)
    groups, everything = [(r,) for r in range(2**p)], tuple(range(2**p))
    back = [Message(source=r, destination=2**p + r, blocks=everything, adds=False) for r in range(extra)]
    middle = _halving(p, groups) + _doubling(p, groups)
    return 2**p, _some([_fold(p, extra, everything)], extra) + middle + _some([tuple(back)], extra)


def _some(rounds: list[Round], extra: int) -> list[Round]:
    return rounds if extra else []


def _answers_for(r: int, p: int, extra: int) -> tuple[int, ...]:
    return (r, 2**p + r) if r < extra else (r,)


def _fold(p: int, extra: int, blocks: tuple[int, ...]) -> Round:
    return tuple(Message(source=2**p + r, destination=r, blocks=blocks, adds=True) for r in range(extra))


def _all_but(destination: int, source: int, k: int) -> Message:
    blocks = tuple(block for block in range(k) if block != destination)
    return Message(source=source, destination=destination, blocks=blocks, adds=False)


def _aligned(r: int, t: int, groups: Groups) -> tuple[int, ...]:
    """Blocks of the 2^t core ranks that share all bits of r from t up."""
    start = r >> t << t
    return tuple(block for rank in range(start, start + 2**t) for block in groups[rank])


def _halving(p: int, groups: Groups) -> list[Round]:
    return [
        tuple(
            Message(source=r, destination=r ^ 2**t, blocks=_aligned(r ^ 2**t, t, groups), adds=True)
            for r in range(2**p)
        )
        for t in reversed(range(p))
    ]


def _doubling(p: int, groups: Groups) -> list[Round]:
    return [
        tuple(Message(source=r, destination=r ^ 2**t, blocks=_aligned(r, t, groups), adds=False) for r in range(2**p))
        for t in range(p)
    ]


def cost(collective: str, k: int) -> Cost:
    p, extra = _core(k)
    core, beyond = 2**p, 1 if extra else 0
    if collective == SCATTER_AND_GATHER:  # rank 0 sends most in both
        gather = cost("all_gather", k)
        return both(cost("reduce_scatter", k), gather, k - 1 + gather.blocks)
    if collective == "all_reduce":
        rounds = 2 * p + 2 * beyond
        blocks = 2 * (core - 1) + beyond * core
        permuted = blocks + beyond * core
        return Cost(rounds=rounds, messages=2 * p + beyond, blocks=blocks, permutes=rounds, permuted=permuted)
    longest = sum(2**t + min(extra, 2**t) for t in range(p))  # blocks of the longest message of each round
    rounds = p + 2 * beyond
    if collective == "all_gather":  # rank 0 sends most: it answers for two from the first round on
        blocks = longest + beyond * (k - 1)
        return Cost(rounds=rounds, messages=p + beyond, blocks=blocks, permutes=rounds, permuted=blocks + beyond)
    blocks = k if extra else k - 1  # a rank beyond the core hands over all
    return Cost(rounds=rounds, messages=p + beyond, blocks=blocks, permutes=rounds, permuted=longest + beyond * (k + 1))
