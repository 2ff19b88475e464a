"""A timed schedule as the timeline of a report: one lane per rank, microbatches as labels."""

from __future__ import annotations

from conformance.contract.timeline import Bar, Lane, Timeline
from suites.pipeline.schedule import FORWARD, WEIGHT_BACKWARD, WORK, TimedSchedule

KINDS = {FORWARD: "forward", WEIGHT_BACKWARD: "weights"}  # all other work is drawn as backward


def timeline(table: TimedSchedule) -> Timeline:
    """Forward and backward passes by rank; of several chunks on a rank the later ones have a prime."""
    schedule = table.schedule
    lanes = tuple(Lane(name=f"rank {rank}", bars=_bars(table, rank)) for rank in range(schedule.ranks))
    title = f"{schedule.name}, {schedule.ranks} ranks, {schedule.stages} stages, {schedule.microbatches} microbatches"
    return Timeline(title=title, unit="time in forward passes of a stage; a backward pass takes two", lanes=lanes)


def _bars(table: TimedSchedule, rank: int) -> tuple[Bar, ...]:
    stages = [stage for stage, holder in enumerate(table.schedule.holders) if holder == rank]
    return tuple(
        Bar(
            start=event.time,
            end=event.time + table.costs[event.kind],
            kind=KINDS.get(event.kind, "backward"),
            label=f"{event.microbatch}{chr(39) * stages.index(event.stage)}",
        )
        for event in table.lanes[rank]
        if event.kind in WORK
    )
