"""1F1B: after a warm-up every rank alternates one forward and one backward, so that few microbatches are live."""

from __future__ import annotations

from suites.pipeline.schedule import BACKWARD, FORWARD, Schedule, Work


def one_f_one_b(ranks: int, microbatches: int) -> Schedule:
    """One stage per rank. Bubble as GPipe's; rank r has min(m, p - r) microbatches live.

    Source: Narayanan et al., Efficient Large-Scale Language Model Training on GPU Clusters, section 2.2.1
    (PipeDream-Flush).
    """
    lanes = tuple(_lane(rank, min(ranks - rank - 1, microbatches), microbatches) for rank in range(ranks))
    return Schedule(name="1f1b", holders=tuple(range(ranks)), microbatches=microbatches, lanes=lanes)


def _lane(stage: int, warm_up: int, microbatches: int) -> tuple[Work, ...]:
    """`warm_up` forwards; then a forward and a backward in turns (steady state); the backwards left (cool-down)."""
    forwards = [Work(kind=FORWARD, stage=stage, microbatch=m) for m in range(microbatches)]
    backwards = [Work(kind=BACKWARD, stage=stage, microbatch=m) for m in range(microbatches)]
    steady = [work for pair in zip(forwards[warm_up:], backwards, strict=False) for work in pair]
    return (*forwards[:warm_up], *steady, *backwards[microbatches - warm_up :])
