"""The laws of a timed schedule, checked on its events alone, whoever made or changed it.

complete     every stage passes every microbatch forward once and backward once, in whichever kinds of work
causal       work begins when all that it needs is finished, and is there: made on that rank, or received
deadlock     with sends and receives that wait for each other, every rank reaches its end
overlap      a rank does one thing at a time
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

from suites.pipeline.schedule import (
    ACTIVATION,
    BACKWARD,
    FORWARD,
    GRADIENT,
    INPUT_BACKWARD,
    RECEIVE,
    SEND,
    WEIGHT_BACKWARD,
    WORK,
    Event,
    Product,
    TimedSchedule,
    Work,
    given,
    gives,
    needs,
)

Needs = Callable[[Work], tuple[Product, ...]]


def violations(table: TimedSchedule, needs: Needs = needs) -> list[str]:
    """A sentence for every broken law; empty for a timed schedule that can be carried out.

    `needs` says what must be there before a piece of work, where an executor asks for other things than most do.
    """
    return [*_incomplete(table), *_misplaced(table), *_overlaps(table), *_acausal(table, needs), *_deadlocks(table)]


def needs_when_recomputed(work: Work) -> tuple[Product, ...]:
    """For an executor whose backward pass computes its forward pass again: what entered the stage, and its gradient."""
    entered = (ACTIVATION, work.stage, work.microbatch)
    return (entered,) if work.kind == FORWARD else (entered, (GRADIENT, work.stage, work.microbatch))


def live(table: TimedSchedule, rank: int) -> int:
    """The most microbatches, counted by stage, that are live on a rank at once."""
    most = now = 0
    for event in table.lanes[rank]:
        now += event.kind == FORWARD
        most = max(most, now)
        now -= event.kind == table.last_uses[event.stage]
    return most


def _incomplete(table: TimedSchedule) -> Iterator[str]:
    schedule = table.schedule
    done = Counter(event.work for event in table.events if event.kind in WORK)
    for stage in range(schedule.stages):
        for microbatch in range(schedule.microbatches):
            counts = {kind: done[Work(kind=kind, stage=stage, microbatch=microbatch)] for kind in WORK}
            whole, halves = counts[BACKWARD], (counts[INPUT_BACKWARD], counts[WEIGHT_BACKWARD])
            if counts[FORWARD] != 1:
                yield f"Microbatch {microbatch} passes stage {stage} forward {counts[FORWARD]} times."
            if (whole, *halves) not in ((1, 0, 0), (0, 1, 1)):
                kinds = ", ".join(f"{kind} {counts[kind]} times" for kind in WORK[1:])
                yield f"Microbatch {microbatch} passes stage {stage} backward wrongly: {kinds}."


def _misplaced(table: TimedSchedule) -> Iterator[str]:
    for event in table.events:
        if event.kind in WORK and table.schedule.holders[event.stage] != event.rank:
            yield f"Stage {event.stage} lies on rank {table.schedule.holders[event.stage]}, but: {event}."


def _overlaps(table: TimedSchedule) -> Iterator[str]:
    for lane in table.lanes:
        work = sorted((event for event in lane if event.kind in WORK), key=lambda event: event.time)
        for event, other in pairwise(work):
            if event.time + table.costs[event.kind] > other.time:
                yield f"Two things at once: {event}, and {other}."


class _Presence:
    """Tracks where every product is over time: made on a rank, in transit, or available for use."""

    def __init__(self, table: TimedSchedule, needs: Needs) -> None:
        self.table, self.schedule, self.needs = table, table.schedule, needs
        at_start = given(table.schedule)
        self.there: dict[tuple[int, Product], float] = {(self._holder(product), product): 0.0 for product in at_start}
        self.made: dict[tuple[int, Product], float] = {}
        self.sent: dict[tuple[int | None, int | None, Product], float] = {}

    def _holder(self, product: Product) -> int:
        return self.schedule.holders[product[1]]

    def broken_by(self, event: Event) -> Iterator[str]:
        """Why an event cannot happen at its time; and what is there after it."""
        if event.kind in WORK:
            yield from self._worked(event)
        elif event.kind == SEND:
            if _late(self.made.get((event.rank, _product(event))), event):
                yield f"Nothing to send yet: {event}."
            self.sent[event.rank, event.peer, _product(event)] = event.time
        elif _late(self.sent.get((event.peer, event.rank, _product(event))), event):
            yield f"Nobody has sent it: {event}."
        else:
            self.there[event.rank, _product(event)] = event.time

    def _worked(self, event: Event) -> Iterator[str]:
        for product in self.needs(event.work):
            if _late(self.there.get((event.rank, product)), event):
                yield f"The {product[0]} of microbatch {product[2]} for stage {product[1]} is not there yet: {event}."
        end = event.time + self.table.costs[event.kind]
        for product in gives(event.work):
            self.made[event.rank, product] = end
            if product[0] in WORK:  # never leaves its rank; activations and gradients come by message
                self.there[event.rank, product] = end


def _acausal(table: TimedSchedule, needs: Needs) -> Iterator[str]:
    presence = _Presence(table, needs)
    for event in sorted(table.events, key=lambda e: (e.time, e.kind in WORK, e.kind == RECEIVE)):
        yield from presence.broken_by(event)


def _product(event: Event) -> Product:
    return event.what, event.stage, event.microbatch


def _late(time: float | None, event: Event) -> bool:
    return time is None or time > event.time


def _deadlocks(table: TimedSchedule) -> Iterator[str]:
    """Every rank goes through its own events; one end of a message waits until the other end is there too."""
    at = [0] * table.schedule.ranks
    lanes = [[event for event in lane if event.kind in WORK or event.peer != event.rank] for lane in table.lanes]
    moved = True
    while moved:
        moved = False
        for rank, lane in enumerate(lanes):
            while at[rank] < len(lane) and lane[at[rank]].kind in WORK:
                at[rank], moved = at[rank] + 1, True
            if at[rank] < len(lane):
                here = lane[at[rank]]
                peer = here.peer if here.peer is not None else rank
                if at[peer] < len(lanes[peer]) and _meet(here, lanes[peer][at[peer]]):
                    at[rank], at[peer], moved = at[rank] + 1, at[peer] + 1, True
    for rank, lane in enumerate(lanes):
        if at[rank] < len(lane):
            yield f"Deadlock: rank {rank} waits for ever to {lane[at[rank]]}."


def _meet(event: Event, other: Event) -> bool:
    """Whether two events are the two ends of one message."""
    same = (event.what, event.stage, event.microbatch) == (other.what, other.stage, other.microbatch)
    return same and {event.kind, other.kind} == {SEND, RECEIVE} and (event.peer, other.peer) == (other.rank, event.rank)
