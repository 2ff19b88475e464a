"""Schedules keep the laws, idle and hold what the formulas say, and no changed schedule passes for a right one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from suites.pipeline.expected_bubble import bubble_share, live_microbatches
from suites.pipeline.laws import live, violations
from suites.pipeline.mutants import OPERATORS, alterations, mutant
from suites.pipeline.schedule import (
    COSTS,
    FORWARD,
    TICKS,
    Schedule,
    ScheduleError,
    TimedSchedule,
    Work,
    timed,
)
from suites.pipeline.schedules import SCHEDULES
from suites.pipeline.ticks import ticks

RANKS = (1, 2, 3, 4, 8)
MICROBATCHES = (1, 2, 3, 4, 8, 12, 16)


def made(costs=COSTS) -> Iterator[TimedSchedule]:
    for name, schedule in SCHEDULES.items():
        for ranks in RANKS:
            for microbatches in MICROBATCHES:
                if name == "interleaved" and microbatches % min(ranks, microbatches):
                    continue
                yield timed(schedule(ranks, microbatches), costs)


def named(table: TimedSchedule) -> str:
    return f"{table.schedule.name}-{table.schedule.ranks}-{table.schedule.microbatches}"


EACH = pytest.mark.parametrize("table", list(made()), ids=named)


@EACH
def test_laws_hold(table: TimedSchedule):
    assert violations(table) == []
    assert violations(timed(table.schedule, TICKS)) == []


@EACH
def test_live_microbatches_are_those_of_the_formulas(table: TimedSchedule):
    schedule = table.schedule
    for rank in range(schedule.ranks):
        expected = live_microbatches(schedule.name, schedule.ranks, schedule.microbatches, rank)
        assert live(table, rank) == expected if schedule.name != "zbv" else live(table, rank) <= expected


@EACH
def test_bubbles_are_those_of_the_formulas(table: TimedSchedule):
    schedule = table.schedule
    expected = bubble_share(schedule.name, schedule.ranks, schedule.microbatches)
    if expected is not None:
        assert table.bubble() == pytest.approx(expected, abs=1e-12)


def test_there_is_a_formula_for_every_schedule():
    assert all(bubble_share(name, 4, 8) is not None for name in SCHEDULES)


@pytest.mark.parametrize("name", SCHEDULES)
def test_slots_are_reused(name: str):
    """In lockstep a slot is freed by the last use: 1F1B needs no more of them for more microbatches, GPipe does."""
    few, many = (ticks(timed(SCHEDULES[name](4, number), TICKS)).slots for number in (8, 16))
    assert (many > few) == (name == "gpipe")


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("operator", OPERATORS)
def test_mutants_break_a_law_or_say_why_not(name: str, operator: str):
    table = timed(SCHEDULES[name](3, 3 if name == "interleaved" else 4))
    alike = [alteration for alteration in alterations(table, "pipeline") if alteration.operator == operator]
    assert alike
    for alteration in alike:
        changed = mutant(table, operator, alteration.site)
        assert changed != table
        assert (violations(changed) == []) == (alteration.neutral is not None)
        assert alteration.neutral is None or operator == "swap_events"


def test_a_mutant_that_is_not_there_is_refused():
    table = timed(SCHEDULES["gpipe"](2, 2))
    with pytest.raises(ScheduleError, match="no mutant drop_send@0"):
        mutant(table, "drop_send", 0)


def test_blocking_messages_in_the_wrong_order_are_a_deadlock():
    """Two ranks that send to each other first, and receive afterwards."""
    table = timed(SCHEDULES["1f1b"](2, 4))
    sends_first = sorted(table.events, key=lambda event: (event.time, event.kind != "send", event.rank))
    assert any(sentence.startswith("Deadlock") for sentence in violations(replace(table, events=tuple(sends_first))))


def test_an_order_that_waits_for_itself_is_refused():
    work = Work(kind=FORWARD, stage=1, microbatch=0), Work(kind=FORWARD, stage=0, microbatch=0)
    schedule = Schedule(name="backwards", holders=(0, 0), microbatches=1, lanes=(work,))
    with pytest.raises(ScheduleError, match="backwards never ends: rank 0 waits with the forward of microbatch 0"):
        timed(schedule)


def test_interleaved_refuses_what_makes_no_rounds():
    with pytest.raises(ScheduleError, match="6 microbatches in rounds of 4"):
        SCHEDULES["interleaved"](4, 6)
