"""The theoretical bubble and the number of live microbatches of each schedule."""

from __future__ import annotations

from suites.pipeline.schedules.interleaved import CHUNKS

# In units of a forward pass of all that a rank holds.
FORWARD, INPUT_BACKWARD, WEIGHT_BACKWARD = 1.0, 1.0, 1.0
ALL = FORWARD + INPUT_BACKWARD + WEIGHT_BACKWARD


def bubble_share(schedule: str, ranks: int, microbatches: int) -> float | None:
    """Idle time by all time, where a backward pass costs two forward passes; None where no closed form is known.

    Sources: GPipe, section 2.3; Narayanan et al. (2021), section 2.2; Zero Bubble Pipeline Parallelism, table 1, whose
    closed forms hold when there are at least as many microbatches as ranks.
    """
    work = microbatches * ALL
    if schedule in ("gpipe", "1f1b"):
        return _share((ranks - 1) * ALL, work)
    if microbatches < ranks:
        return None
    if schedule == "interleaved":
        return _share((ranks - 1) * ALL / CHUNKS, work)
    if schedule == "zb-h1":
        return _share((ranks - 1) * (FORWARD + INPUT_BACKWARD - WEIGHT_BACKWARD), work)
    if schedule == "zbv" and ranks <= 4:  # the greedy order is optimal there: only the way to the last rank is idle
        return _share((ranks - 1) * FORWARD / 2, work)
    return None


def _share(idle: float, work: float) -> float:
    return idle / (idle + work)


def live_microbatches(schedule: str, ranks: int, microbatches: int, rank: int) -> int:
    """Most microbatches live on a rank at once, counted by chunk where a rank has several; for ZBV a bound.

    Sources: as above; the warm-up of the interleaved schedule is that of section 2.2.2, which passes rounds of p.
    """
    if schedule == "gpipe":
        return microbatches
    if schedule == "1f1b":
        return min(microbatches, ranks - rank)
    if schedule == "interleaved":
        size = min(ranks, microbatches)
        warm_up = (CHUNKS - 1) * size + 2 * (ranks - rank - 1)
        return min(warm_up + 1, CHUNKS * microbatches)
    if schedule == "zb-h1":
        return min(microbatches, ranks)
    return min(2 * ranks, 2 * microbatches)
