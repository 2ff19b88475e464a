"""Whatever a case does to its worker becomes a verdict within the timeout, and the next case runs fine."""

from __future__ import annotations

import time

import pytest

from conformance.cases.resolve import Target
from conformance.records.results import CaseResult
from conformance.runner.run import CaseRunner
from conformance.workers.jobs import Outcome
from conformance.workers.pool import Workers
from tests.workers import tiny
from tests.workers.conftest import job

SECONDS = 4.0
LATE = 20.0  # a busy machine takes its time to collect stacks and to end processes


def run(workers: Workers, framework: str, program: str, seconds: float = 60.0) -> Outcome:
    assert workers.run(job(framework, "Right"), 60).failure is None  # warm: what follows is the case and nothing else
    started = time.monotonic()
    outcome = workers.run(job(framework, program), seconds)
    assert time.monotonic() - started < seconds + LATE
    assert outcome.evidence is None
    return outcome


@pytest.fixture(autouse=True)
def next_case_runs(workers: Workers, framework: str):
    yield
    after = workers.run(job(framework, "Right"), 60)
    assert after.failure is None, after.reason + after.stack + after.output


def test_deadlock_is_a_hang_with_stacks(workers: Workers, framework: str) -> None:
    outcome = run(workers, framework, "Deadlocks", SECONDS)
    assert outcome.failure == "hang"
    assert "No answer within 4 seconds" in outcome.reason
    assert {"jax": "block_until_ready", "torch": "in total"}[framework] in outcome.stack


def test_abort_is_a_crash_with_signal_stack_and_output(workers: Workers, framework: str) -> None:
    outcome = run(workers, framework, "Aborts")
    assert outcome.failure == "crash"
    assert "SIGABRT" in outcome.reason
    assert "in step" in outcome.stack
    assert "about to abort" in outcome.output


def test_exit_is_a_crash_with_status(workers: Workers, framework: str) -> None:
    outcome = run(workers, framework, "Exits")
    assert (outcome.failure, "exit status 3" in outcome.reason) == ("crash", True), outcome.reason


def test_exception_is_an_error_with_its_stack(workers: Workers, framework: str) -> None:
    """In torch one rank raises while the other waits for it: it is an error, not a hang after the timeout."""
    outcome = run(workers, framework, "Raises", seconds=60)
    assert outcome.failure == "error"
    assert "the step has a bug" in outcome.reason
    assert "in step" in outcome.stack
    assert "about to raise" in outcome.output


def test_eaten_memory_is_a_crash_that_says_so(workers: Workers, framework: str) -> None:
    outcome = run(workers, framework, "EatsMemory", seconds=60)
    assert outcome.failure == "crash"
    assert "memory" in outcome.reason


def test_refusal_is_unsupported_in_its_own_words(workers: Workers, framework: str) -> None:
    outcome = run(workers, framework, "Refuses")
    assert outcome.failure == "unsupported"
    assert outcome.reason == "Seven heads cannot be divided over two devices."


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("WrongBlock", "The observation 'outputs/y' cannot be read"),
        ("OnlyState", "A step must return two things"),
    ],
)
def test_unreadable_evidence_is_an_error_in_a_sentence(
    workers: Workers, framework: str, program: str, sentence: str
) -> None:
    outcome = run(workers, framework, program)
    assert outcome.failure == "error"
    assert outcome.reason.startswith(sentence)


def _judged(workers: Workers, framework: str, program: str) -> CaseResult:
    given = job(framework, program)
    target = Target(contract=tiny.CONTRACT, framework=framework, path=given.target)
    return CaseRunner(workers=workers, bisect=False).judge_case(given.case, target)


def test_the_steps_that_were_finished_are_judged_and_what_broke_is_said_beside_it(
    workers: Workers, framework: str
) -> None:
    result = _judged(workers, framework, "AbortsLater")
    assert result.verdict == "fail"
    assert "SIGABRT" in result.reason
    assert result.reason.endswith("It had finished 1 of 2 steps, which are wrong.")
    failed = [check for check in result.checks if check.verdict == "fail"]
    assert failed[0].check == "logic"
    assert failed[0].diagnosis[0].cause.startswith("summed twice")


def test_steps_that_are_right_leave_the_verdict_to_what_broke(workers: Workers, framework: str) -> None:
    result = _judged(workers, framework, "RaisesLater")
    assert result.verdict == "error"
    assert "the second step has a bug" in result.reason
    assert result.reason.endswith("It had finished 1 of 2 steps, which are right.")
    assert {check.verdict for check in result.checks} == {"pass"}


def test_nothing_is_taken_over_from_the_case_before(workers: Workers, framework: str) -> None:
    assert workers.run(job(framework, "Right"), 60).failure is None
    assert workers.run(job(framework, "Raises"), 60).evidence is None
