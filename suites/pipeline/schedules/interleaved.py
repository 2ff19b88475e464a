"""Interleaved 1F1B: every rank holds several chunks of the model, so that the pipeline fills faster."""

from __future__ import annotations

from suites.pipeline.schedule import BACKWARD, FORWARD, Schedule, ScheduleError, Work

CHUNKS = 2


def interleaved(ranks: int, microbatches: int, chunks: int = CHUNKS) -> Schedule:
    """Rank r holds stages r, r + p, r + 2p ... Bubble (p - 1) / (v m + p - 1) for v chunks and m a multiple of p.

    Microbatches pass in rounds of p (of all, where there are fewer), each round through chunk after chunk.
    Raises ScheduleError for microbatches that make no whole rounds.
    Source: Narayanan et al., Efficient Large-Scale Language Model Training on GPU Clusters, section 2.2.2.
    """
    size = min(ranks, microbatches)
    if microbatches % size:
        raise ScheduleError(
            f"Interleaved 1F1B passes {microbatches} microbatches in rounds of {ranks}, one for each rank of the "
            f"pipeline axis: the number of microbatches must be a multiple of it, or smaller."
        )
    lanes = tuple(_lane(rank, ranks, size, microbatches, chunks) for rank in range(ranks))
    return Schedule(name="interleaved", holders=tuple(range(ranks)) * chunks, microbatches=microbatches, lanes=lanes)


def _lane(rank: int, ranks: int, size: int, microbatches: int, chunks: int) -> tuple[Work, ...]:
    rounds = range(0, microbatches, size)
    turns = [(chunk, first + m) for first in rounds for chunk in range(chunks) for m in range(size)]
    back = [(chunks - 1 - chunk, m) for chunk, m in turns]
    forwards = [Work(kind=FORWARD, stage=chunk * ranks + rank, microbatch=m) for chunk, m in turns]
    backwards = [Work(kind=BACKWARD, stage=chunk * ranks + rank, microbatch=m) for chunk, m in back]
    warm_up = min((chunks - 1) * size + 2 * (ranks - rank - 1), len(turns))
    steady = [work for pair in zip(forwards[warm_up:], backwards, strict=False) for work in pair]
    return (*forwards[:warm_up], *steady, *backwards[len(turns) - warm_up :])
