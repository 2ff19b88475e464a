"""GPipe: all microbatches forward (fill), then all of them backward (drain)."""

from __future__ import annotations

from suites.pipeline.schedule import BACKWARD, FORWARD, Schedule, Work


def gpipe(ranks: int, microbatches: int) -> Schedule:
    """One stage per rank. Bubble (p - 1) / (m + p - 1); every rank has all m microbatches live.

    Source: Huang et al., GPipe: Efficient Training of Giant Neural Networks using Pipeline Parallelism, section 2.
    """
    lanes = tuple(
        tuple(Work(kind=FORWARD, stage=rank, microbatch=m) for m in range(microbatches))
        + tuple(Work(kind=BACKWARD, stage=rank, microbatch=m) for m in reversed(range(microbatches)))
        for rank in range(ranks)
    )
    return Schedule(name="gpipe", holders=tuple(range(ranks)), microbatches=microbatches, lanes=lanes)
