"""Mutants of a schedule: one round changed, as an algorithm with a bug would have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from conformance.contract.alteration import Alteration
from suites.collectives.laws import violations
from suites.collectives.schedule import Message, Round, Schedule, ScheduleError

Change = Callable[[Message, Schedule], Message | None]

NEUTRAL = "every rank still ends with every operand exactly once"


def _rolled(message: Message, schedule: Schedule) -> Message:
    return replace(message, blocks=tuple((block + 1) % schedule.blocks for block in message.blocks))


# operator -> (what happens to every message of one round, in words)
OPERATORS: Mapping[str, tuple[Change, str]] = {
    "drop_round": (lambda message, _: None, "is left out"),
    "swap_action": (
        lambda message, _: replace(message, adds=not message.adds),
        "adds where it should overwrite, or the other way round",
    ),
    "roll_blocks": (_rolled, "has block numbers that are one too large"),
    "turn_round": (
        lambda message, _: replace(message, source=message.destination, destination=message.source),
        "goes from destinations to sources",
    ),
}


def mutant(schedule: Schedule, operator: str, site: int) -> Schedule:
    """The schedule with one round changed. Raises ScheduleError for what is not there."""
    if operator not in OPERATORS or not 0 <= site < len(schedule.rounds):
        raise ScheduleError(f"There is no mutant {operator}@{site} of a schedule of {len(schedule.rounds)} rounds.")
    change, _ = OPERATORS[operator]
    changed: Round = tuple(m for m in (change(message, schedule) for message in schedule.rounds[site]) if m)
    return replace(schedule, rounds=(*schedule.rounds[:site], changed, *schedule.rounds[site + 1 :]))


def alterations(schedule: Schedule, axis: str) -> Iterator[Alteration]:
    """Every mutant that differs from the schedule."""
    for operator, (_, words) in OPERATORS.items():
        for site in range(len(schedule.rounds)):
            other = mutant(schedule, operator, site)
            if other != schedule:
                neutral = None if violations(other) else NEUTRAL
                what = f"Round {site} of the {schedule.collective} {words}."
                yield Alteration(operator=operator, site=site, what=what, axis=axis, neutral=neutral)
