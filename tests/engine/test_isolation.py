"""What fails is run once more alone; what passes there depends on earlier cases, and the command names them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from conformance.cases.case import Case
from conformance.contract.mesh import Mesh
from conformance.records.reproduce import reproduce, reproduction
from conformance.records.results import CaseResult, Cause, CheckResult
from conformance.runner.isolation import DEPENDS, HANG_SECONDS, MOST_BEFORE, MOST_CASES, SOMETIMES, Isolation

FIRST, SECOND, THIRD, LAST = (
    Case(contract=f"made/{name}", implementation="jax-made", mesh=Mesh.parse("data=2"), dtype="float64")
    for name in ("first", "second", "third", "last")
)
GUESS = Cause(cause="scaled by 2", axis="data", confidence=0.9)


def _failed(verdict: str = "fail") -> CaseResult:
    passed = CheckResult(check="census", verdict="pass", compared=1)
    failed = CheckResult(check="logic", verdict="fail", compared=1, diagnosis=(GUESS,))
    return CaseResult(case=LAST, framework="jax", verdict=verdict, checks=(passed, failed))


class Afresh:
    """Fresh processes, in which the last case fails where `fails` says so of the cases before it."""

    def __init__(self, fails: Callable[[Sequence[Case]], bool], how: str = "fail") -> None:
        self.fails, self.how, self.ran, self.seconds = fails, how, [], []

    def __call__(self, cases: Sequence[Case], seconds: float | None) -> CaseResult:
        self.ran.append(tuple(case.contract.partition("/")[2] for case in cases))
        self.seconds.append(seconds)
        return replace(_failed(), case=cases[-1], verdict=self.how if self.fails(cases[:-1]) else "pass", checks=())


def _examined(afresh: Afresh, before: Sequence[Case] = (FIRST, SECOND, THIRD), verdict: str = "fail") -> CaseResult:
    return Isolation(afresh).examined(_failed(verdict), before)


@pytest.mark.parametrize(
    ("needs", "ran", "after"),
    [
        ({THIRD}, [("last",), ("third", "last")], (THIRD,)),
        ({FIRST}, [("last",), ("third", "last"), ("first", "last")], (FIRST,)),
        ({FIRST, SECOND}, [("last",), ("third", "last"), ("first", "last"), ("first", "second", "third", "last")],
         (FIRST, SECOND, THIRD)),
    ],
)  # fmt: skip
def test_the_cases_that_it_takes_are_found(needs: set, ran: list, after: tuple) -> None:
    afresh = Afresh(lambda earlier: needs <= set(earlier))
    result = _examined(afresh)
    assert afresh.ran == ran
    assert result.verdict == "fail"
    assert result.after == tuple(case.id for case in after)
    assert result.alone.startswith(f"Alone in fresh processes it passes: it {DEPENDS}, and fails again after ")
    assert [[cause.cause for cause in check.diagnosis] for check in result.checks] == [[], [DEPENDS]]
    words = reproduction(result, ["logic"])
    assert words.startswith(f"shardproof run --case '{after[0].id}'")
    assert words.endswith(f"--case '{LAST.id}' --check logic")


def test_what_fails_alone_too_keeps_its_diagnosis_and_its_command() -> None:
    afresh = Afresh(lambda earlier: True)
    result = _examined(afresh)
    assert afresh.ran == [("last",)]
    assert result == replace(_failed(), alone="Alone in fresh processes it fails too.")
    assert reproduction(result) == reproduce(LAST)
    assert _examined(Afresh(lambda earlier: True, how="crash")).alone.endswith("it crashes instead.")


def test_the_first_case_and_what_is_as_expected_are_not_run_again() -> None:
    afresh = Afresh(lambda earlier: True)
    assert _examined(afresh, before=()) == _failed()
    passed, refused = (replace(_failed(), verdict=verdict) for verdict in ("pass", "unsupported"))
    expected = replace(_failed(), verdict="error", case=replace(LAST, expect="error"))
    for result in (passed, refused, expected, replace(refused, missing="jax")):
        assert Isolation(afresh).examined(result, [FIRST]) is result
    assert afresh.ran == []


def test_what_fails_again_with_nothing_is_said_to_do_so_sometimes() -> None:
    result = _examined(Afresh(lambda earlier: False))
    assert (result.verdict, result.after) == ("fail", ())
    assert result.alone == f"Alone in fresh processes it passes, and after the cases before it as well: it {SOMETIMES}."
    assert result.checks[1].diagnosis[0].cause == SOMETIMES


def test_many_cases_are_named_and_not_run_again() -> None:
    before = [replace(FIRST, seed=seed) for seed in range(MOST_BEFORE + 1)]
    afresh = Afresh(lambda earlier: len(earlier) > 1)
    result = _examined(afresh, before)
    assert len(afresh.ran) == 3
    assert result.after == tuple(case.id for case in before)
    assert f"failed after {len(before)} other cases" in result.alone


def test_what_hung_is_not_waited_for_as_long_again() -> None:
    afresh = Afresh(lambda earlier: True, how="hang")
    assert _examined(afresh, verdict="hang").alone == "Alone in fresh processes it hangs (for 30 seconds) too."
    assert afresh.seconds == [HANG_SECONDS]


def test_a_handful_of_a_run_is_run_again_and_the_rest_says_so() -> None:
    afresh = Afresh(lambda earlier: True)
    isolation = Isolation(afresh)
    said = [isolation.examined(_failed(), [FIRST]).alone for _ in range(MOST_CASES + 2)]
    assert len(afresh.ran) == MOST_CASES
    assert [words.startswith("It was not run again alone") for words in said] == [False] * MOST_CASES + [True] * 2


def test_what_cannot_be_run_again_loses_nothing() -> None:
    def afresh(cases: Sequence[Case], seconds: float | None) -> CaseResult:
        raise OSError("No folder.")

    result = Isolation(afresh).examined(_failed(), [FIRST])
    assert result == replace(_failed(), alone="It could not be run again alone: No folder.")
