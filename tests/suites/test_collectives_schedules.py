"""Schedules of collectives keep their law and cost what the formulas say, and a changed one breaks the law."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from suites.collectives.algorithms import ALGORITHMS, cost, schedule
from suites.collectives.laws import violations
from suites.collectives.mutants import alterations, mutant
from suites.collectives.schedule import (
    ALL_GATHER,
    ALL_REDUCE,
    COLLECTIVES,
    REDUCE_SCATTER,
    SCATTER_AND_GATHER,
    Schedule,
    ScheduleError,
    all_messages,
    counted,
    in_one_program,
    permutations,
)

pytestmark = pytest.mark.quick
RANKS = range(2, 18)


def made() -> list[tuple[str, Schedule]]:
    schedules = []
    for name in ALGORITHMS:
        for collective in COLLECTIVES:
            for ranks in RANKS:
                try:
                    schedules.append((name, schedule(name, collective, ranks)))
                except ScheduleError:
                    assert name == "hierarchical"
    return schedules


MADE = made()


def test_every_rank_ends_with_every_operand_exactly_once():
    assert [(name, broken) for name, plan in MADE if (broken := violations(plan))] == []


def test_messages_and_blocks_are_those_of_the_formulas():
    wrong = [
        (name, plan.collective, plan.ranks)
        for name, plan in MADE
        if counted(plan) != cost(name, plan.collective, plan.ranks)
    ]
    assert wrong == []


def test_a_reduce_scatter_and_an_all_gather_cost_what_the_busiest_rank_of_both_sends():
    wrong = []
    for name in ALGORITHMS:
        plans = {(plan.collective, plan.ranks): plan for algorithm, plan in MADE if algorithm == name}
        for ranks in sorted({ranks for _, ranks in plans}):
            rounds = plans[REDUCE_SCATTER, ranks].rounds + plans[ALL_GATHER, ranks].rounds
            together = Schedule(collective=ALL_REDUCE, ranks=ranks, blocks=ranks, rounds=rounds)
            if counted(together) != cost(name, SCATTER_AND_GATHER, ranks):
                wrong.append((name, ranks))
    assert wrong == []


def test_only_hierarchical_refuses_and_only_what_has_no_divisor():
    refused = {2, 3, 5, 7, 11, 13, 17}
    assert {plan.ranks for name, plan in MADE if name == "hierarchical"} == set(RANKS) - refused
    for name in ALGORITHMS.keys() - {"hierarchical"}:
        assert {plan.ranks for algorithm, plan in MADE if algorithm == name} == set(RANKS)
    with pytest.raises(ScheduleError, match="7 devices make no two levels"):
        schedule("hierarchical", ALL_REDUCE, 7)


@pytest.mark.parametrize("name", ["ring", "halving", "direct", "hierarchical"])
@pytest.mark.parametrize("ranks", [4, 8, 16])
def test_bandwidth_is_the_least_that_there_can_be(name: str, ranks: int):
    """An all-reduce of n bytes sends at least 2 n (k - 1) / k per rank (Patarasuk and Yuan, 2009)."""
    plan = schedule(name, ALL_REDUCE, ranks)
    assert counted(plan).blocks / plan.blocks == 2 * (ranks - 1) / ranks


def test_latency_of_halving_is_logarithmic_and_that_of_a_ring_linear():
    assert [cost("halving", ALL_REDUCE, k).rounds for k in (2, 4, 8, 16)] == [2, 4, 6, 8]
    assert [cost("ring", ALL_REDUCE, k).rounds for k in (2, 4, 8, 16)] == [2, 6, 14, 30]
    assert [cost("tree", ALL_REDUCE, k).rounds for k in (3, 5, 8, 9)] == [4, 6, 6, 8]


@given(st.sampled_from(MADE), st.data())
def test_a_message_that_is_lost_breaks_the_law(made: tuple[str, Schedule], data: st.DataObject):
    _, plan = made
    number = data.draw(st.integers(0, len(list(all_messages(plan))) - 1))
    assert violations(_without(plan, number))


def _without(plan: Schedule, number: int) -> Schedule:
    lost = list(all_messages(plan))[number]
    return replace(plan, rounds=tuple(tuple(m for m in messages if m is not lost) for messages in plan.rounds))


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("collective", COLLECTIVES)
def test_a_round_that_is_changed_breaks_the_law_or_is_said_to_be_neutral(name: str, collective: str):
    plan = schedule(name, collective, 4)
    made = list(alterations(plan, "tensor"))
    assert {alteration.operator for alteration in made} >= {"drop_round", "swap_action"}
    for alteration in made:
        other = mutant(plan, alteration.operator, alteration.site)
        assert other != plan
        assert (violations(other) == []) == (alteration.neutral is not None)
    assert not any(alteration.neutral for alteration in made if alteration.operator == "drop_round")


def test_a_mutant_that_is_not_there_is_refused():
    with pytest.raises(ScheduleError, match="no mutant drop_round@9"):
        mutant(schedule("ring", ALL_GATHER, 4), "drop_round", 9)


def test_a_permutation_has_each_rank_once_at_either_end():
    for _, plan in MADE:
        for messages in plan.rounds:
            parts = permutations(messages)
            assert sorted(map(repr, (m for part in parts for m in part))) == sorted(map(repr, messages))
            for part in parts:
                assert len({m.source for m in part}) == len({m.destination for m in part}) == len(part)
                assert len({m.adds for m in part}) == 1


def test_in_one_program_every_rank_sends_in_every_permutation():
    for _, plan in MADE:
        program = in_one_program(plan)
        assert all(sorted(m.source for m in messages) == list(range(plan.ranks)) for messages in program.rounds)
        cost_of_all = counted(plan)
        assert len(program.rounds) == cost_of_all.permutes
        assert sum(len(messages[0].blocks) for messages in program.rounds) == cost_of_all.permuted


@given(
    st.sampled_from([(name, plan) for name, plan in MADE if plan.ranks <= 8]),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
)
def test_numbers_come_out_as_names_do(made: tuple[str, Schedule], width: int, seed: int):
    """The same schedule on whole numbers, by a plain interpreter: the sum or the parts, on every rank."""
    _, plan = made
    given = np.random.default_rng(seed).integers(-9, 10, (plan.ranks, plan.blocks, width))
    buffers = given.copy()
    if plan.collective == ALL_GATHER:
        buffers = np.where(np.eye(plan.ranks, dtype=bool)[:, :, None], given, 0)
    for messages in plan.rounds:
        sent = [(m, buffers[m.source, list(m.blocks)].copy()) for m in messages]
        for message, values in sent:
            here = buffers[message.destination]
            places = list(message.blocks)
            here[places] = here[places] + values if message.adds else values
    if plan.collective == ALL_GATHER:
        wanted = given[np.arange(plan.ranks), np.arange(plan.ranks)]
        assert all(np.array_equal(buffer, wanted) for buffer in buffers)
    elif plan.collective == REDUCE_SCATTER:
        assert all(np.array_equal(buffers[r, r], given[:, r].sum(0)) for r in range(plan.ranks))
    else:
        assert all(np.array_equal(buffer, given.sum(0)) for buffer in buffers)
