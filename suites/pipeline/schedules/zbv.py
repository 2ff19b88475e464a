"""ZBV: two chunks per rank, laid out as a V, and the backward pass cut in two: almost no bubble at 1F1B's memory."""

from __future__ import annotations

from collections.abc import Iterator

from suites.pipeline.schedule import (
    FORWARD,
    INPUT_BACKWARD,
    WEIGHT_BACKWARD,
    Schedule,
    Work,
    given,
    gives,
    needs,
)


def zbv(ranks: int, microbatches: int) -> Schedule:
    """Rank r holds stages r and 2p - 1 - r: the loss is where the inputs are. At most 2p microbatches are live.

    Greedy, one unit of time after the other, in this order of preference: gradients of inputs (others wait for them),
    forwards (the second chunk first: it leads to a gradient sooner) while fewer than 2p are live, gradients of weights.
    Source: Qi et al., Pipeline Parallelism with Controllable Memory, section 4 (V-Min to V-ZB: the V shape), and Zero
    Bubble Pipeline Parallelism, section 3 (the greedy order).
    """
    holders = (*range(ranks), *reversed(range(ranks)))
    blank = Schedule(name="zbv", holders=holders, microbatches=microbatches, lanes=((),) * ranks)
    lanes: list[list[Work]] = [[] for _ in range(ranks)]
    there, left = given(blank), set(_all_work(len(holders), microbatches))
    while left:
        chosen = [_chosen(rank, lanes[rank], holders, left, there) for rank in range(ranks)]
        for rank, work in enumerate(chosen):
            if work is not None:
                lanes[rank].append(work)
                left.remove(work)
                there |= set(gives(work))
    return Schedule(name="zbv", holders=holders, microbatches=microbatches, lanes=tuple(map(tuple, lanes)))


def _all_work(stages: int, microbatches: int) -> Iterator[Work]:
    for kind in (INPUT_BACKWARD, FORWARD, WEIGHT_BACKWARD):
        yield from (Work(kind=kind, stage=s, microbatch=m) for s in range(stages) for m in range(microbatches))


def _chosen(rank: int, lane: list[Work], holders: tuple[int, ...], left: set[Work], there: set) -> Work | None:
    """What a rank does next; None where nothing can be done."""
    live = sum({FORWARD: 1, WEIGHT_BACKWARD: -1}.get(work.kind, 0) for work in lane)
    ready = [
        work
        for work in left
        if holders[work.stage] == rank
        and all(product in there for product in needs(work))
        and (work.kind != FORWARD or _may_begin(work, live, holders))
    ]
    rank_of_kind = {INPUT_BACKWARD: 0, FORWARD: 1, WEIGHT_BACKWARD: 2}
    return min(ready, key=lambda work: (rank_of_kind[work.kind], work.microbatch, -work.stage), default=None)


def _may_begin(work: Work, live: int, holders: tuple[int, ...]) -> bool:
    """A first chunk leaves room for the second chunk of what is on its way."""
    return live < len(holders) - (work.stage < len(holders) // 2)
