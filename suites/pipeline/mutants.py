"""Mutants of a timed schedule: one event changed, as a scheduler with a bug would have made it.

Each operator takes the events and the number of the event that it changes, in the order of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from conformance.contract.alteration import Alteration
from suites.pipeline.laws import Needs, violations
from suites.pipeline.schedule import (
    ACTIVATION,
    BACKWARD,
    FORWARD,
    INPUT_BACKWARD,
    RECEIVE,
    SEND,
    WEIGHT_BACKWARD,
    WORK,
    Event,
    ScheduleError,
    TimedSchedule,
    needs,
)

Events = tuple[Event, ...]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One way to spoil a timed schedule. `change` gives the new events; None where it does not apply to that event.

    causes   words of which a right diagnosis has one
    """

    law: str
    causes: tuple[str, ...]
    change: Callable[[TimedSchedule, int], Events | None]


def _put(table: TimedSchedule, changes: Mapping[int, Event | None]) -> Events:
    """The events with some replaced, or left out."""
    events = (changes.get(number, event) for number, event in enumerate(table.events))
    return tuple(event for event in events if event is not None)


def _swapped(table: TimedSchedule, number: int) -> Events | None:
    """A piece of work and the next one of its rank change places; messages stay where they are."""
    event = table.events[number]
    later = [n for n, e in enumerate(table.events) if e.rank == event.rank and e.kind in WORK and e.time > event.time]
    if event.kind not in WORK or not later:
        return None
    other = table.events[later[0]]
    return _put(table, {number: replace(other, time=event.time), later[0]: replace(event, time=other.time)})


def _dropped(table: TimedSchedule, number: int) -> Events | None:
    return _put(table, {number: None}) if _leaves(table.events[number]) else None


def _misdirected(table: TimedSchedule, number: int) -> Events | None:
    event, ranks = table.events[number], table.schedule.ranks
    if not _leaves(event) or ranks < 3 or event.peer is None:
        return None
    wrong = next(rank for rank in range(ranks) if rank not in (event.rank, event.peer))
    return _put(table, {number: replace(event, peer=wrong)})


def _leaves(event: Event) -> bool:
    return event.kind == SEND and event.peer != event.rank


def _mixed_up(table: TimedSchedule, number: int) -> Events | None:
    """A forward pass takes the next microbatch, which takes this one's place."""
    event = table.events[number]
    place = (event.kind, event.stage)
    same = [n for n, e in enumerate(table.events) if (e.kind, e.stage) == place and e.time > event.time]
    if event.kind != FORWARD or not same:
        return None
    other = table.events[same[0]]
    first, second = replace(event, microbatch=other.microbatch), replace(other, microbatch=event.microbatch)
    return _put(table, {number: first, same[0]: second})


def _early_update(table: TimedSchedule, number: int) -> Events | None:
    """The last gradient of a stage's weights is not there yet when the weights are updated."""
    event = table.events[number]
    final = [e for e in table.events if e.stage == event.stage and e.kind in (BACKWARD, WEIGHT_BACKWARD)][-1]
    if event is not final:
        return None
    return _put(table, {number: replace(event, kind=INPUT_BACKWARD) if event.kind == BACKWARD else None})


def _stale(table: TimedSchedule, number: int) -> Events | None:
    """An activation is not kept when it arrives: what was in its slot before is used."""
    event = table.events[number]
    arrives = event.kind == RECEIVE and event.what == ACTIVATION and event.peer != event.rank
    return _put(table, {number: None}) if arrives else None


# A message that never comes: what lay in its place is used, or nothing flows on.
_NEVER_ARRIVES = ("permute missing", "never arrives", "no gradient arrives", "zeros never written", "stale")

OPERATORS: Mapping[str, Operator] = {
    "swap_events": Operator(
        law="two pieces of work change places",
        causes=("another order", "too early", "stale", "holds what belongs to", "permuted", "no gradient arrives"),
        change=_swapped,
    ),
    "drop_send": Operator(law="a message is not sent", causes=_NEVER_ARRIVES, change=_dropped),
    "wrong_peer": Operator(
        law="a message is sent to another rank",
        causes=(*_NEVER_ARRIVES, "another rank", "instead"),
        change=_misdirected,
    ),
    "mixed_microbatch": Operator(
        law="a forward pass takes another microbatch",
        causes=("another microbatch", "another order", "holds what belongs to", "permuted", "shifted"),
        change=_mixed_up,
    ),
    "early_update": Operator(
        law="weights are updated before the last microbatch",
        causes=("too early", "stale", "last microbatch", "no gradient arrives", "never updated"),
        change=_early_update,
    ),
    "stale_activation": Operator(
        law="what arrives is not kept: an old activation is used",
        causes=("stale", "holds what belongs to", "another value", "zeros never written"),
        change=_stale,
    ),
}


def mutant(table: TimedSchedule, operator: str, site: int) -> TimedSchedule:
    """The timed schedule with one event changed. Raises ScheduleError where the operator does not apply there."""
    known = operator in OPERATORS and 0 <= site < len(table.events)
    events = OPERATORS[operator].change(table, site) if known else None
    if events is None:
        raise ScheduleError(f"The schedule {table.schedule.name} has no mutant {operator}@{site}.")
    return replace(table, events=events)


def alterations(
    table: TimedSchedule, axis: str, seen_by: tuple[str, ...] = (), needs: Needs = needs
) -> Iterator[Alteration]:
    """Every mutant of a timed schedule; one that breaks no law of its executor is another schedule that is right."""
    for name, operator in OPERATORS.items():
        for site, event in enumerate(table.events):
            events = operator.change(table, site)
            if events is not None:
                lawful = not violations(replace(table, events=events), needs)
                neutral = "the changed timed schedule keeps every law of schedules" if lawful else None
                what = f"schedule {table.schedule.name}: {operator.law} ({event})"
                yield Alteration(
                    operator=name,
                    site=site,
                    what=what,
                    axis=axis,
                    causes=operator.causes,
                    seen_by=seen_by,
                    neutral=neutral,
                )
