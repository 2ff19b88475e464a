"""ZB-H1: 1F1B with the backward pass cut in two; weight gradients, which no other rank needs, fill the bubble."""

from __future__ import annotations

from collections.abc import Iterator

from suites.pipeline.schedule import FORWARD, INPUT_BACKWARD, WEIGHT_BACKWARD, Schedule, Work


def zero_bubble(ranks: int, microbatches: int) -> Schedule:
    """One stage per rank; rank r defers the weight gradients by r microbatches. At most p microbatches are live.

    Bubble (p - 1)(F + I - W) against (p - 1)(F + I + W) of 1F1B, in the times of the three kinds of work.
    Source: Qi et al., Zero Bubble Pipeline Parallelism, section 2.1 (ZB-H1).
    """
    lanes = tuple(tuple(_lane(rank, min(ranks - rank - 1, microbatches), microbatches)) for rank in range(ranks))
    return Schedule(name="zb-h1", holders=tuple(range(ranks)), microbatches=microbatches, lanes=lanes)


def _lane(rank: int, warm_up: int, microbatches: int) -> Iterator[Work]:
    """As 1F1B; a gradient of weights follows every gradient of inputs, `rank` microbatches behind."""

    def work(kind: str, microbatch: int) -> Work:
        return Work(kind=kind, stage=rank, microbatch=microbatch)

    yield from (work(FORWARD, m) for m in range(warm_up))
    for m in range(microbatches):
        if m + warm_up < microbatches:
            yield work(FORWARD, m + warm_up)
        yield work(INPUT_BACKWARD, m)
        if m >= rank:
            yield work(WEIGHT_BACKWARD, m - rank)
    yield from (work(WEIGHT_BACKWARD, m) for m in range(max(microbatches - rank, 0), microbatches))
