"""`shardproof run`: exit statuses, what is printed where, and what is recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from people_records import ONE, broken, failing, one_case, passing

from conformance.cases.case import Case
from conformance.cases.resolve import resolve
from conformance.cases.selection import Selection, select
from conformance.records.recorder import read
from conformance.records.reproduce import reproduce
from conformance.records.results import CaseResult, overhead
from conformance.runner.run import CaseRunner
from conformance.workers.jobs import Outcome

SMOKE = len(select(Selection(profile="smoke")))


def test_all_as_expected(shardproof, fake_run, here: Path) -> None:
    done = shardproof("run", "--profile", "smoke", "--output", "out")
    assert done.exit_code == 0, done.output
    assert len(fake_run.cases) == len(read(here / "out").records) == SMOKE
    assert f"{SMOKE} cases" in done.stdout
    assert "all as expected" in done.stdout
    assert "Overhead: 12.5 %" in done.stdout
    assert f"Report: {Path('out/report.html')}" in done.stdout
    assert (here / "out" / "report.html").is_file()
    run = read(here / "out").run
    assert (run.profile, run.planned, run.totals) == ("smoke", SMOKE, {"pass": SMOKE})
    assert run.finished is not None
    assert len(run.hash) == 64
    assert run.packages["numpy"]


def test_a_timeout_and_trials_are_passed_on(shardproof, fake_run) -> None:
    assert shardproof("run", *ONE, "--timeout", "7.5", "--no-trials", "--workers", "3").exit_code == 0
    assert (fake_run.how["timeout_seconds"], fake_run.how["bisect"], fake_run.how["at_once"]) == (7.5, False, 3)
    assert shardproof("run", *ONE).exit_code == 0
    assert (fake_run.how["timeout_seconds"], fake_run.how["bisect"]) == (None, True)


def test_workers_are_given_the_time_that_was_asked_for() -> None:
    class Slow:
        seconds = 0.0

        def run(self, job: object, seconds: float) -> Outcome:
            self.seconds = seconds
            return Outcome(failure="hang", reason="No answer.")

    case = one_case()
    slow = Slow()
    assert CaseRunner(workers=slow, timeout_seconds=7.5).judge_case(case, resolve(case)).verdict == "hang"
    assert slow.seconds == 7.5


def test_a_framework_that_is_missing_fails_no_run(shardproof, fake_run, here: Path) -> None:
    def judge(case: Case) -> CaseResult:
        away = case.implementation.startswith("torch")
        return replace(broken(case, "error"), missing="torch") if away else passing(case)

    fake_run.judge = judge
    done = shardproof("run", "--profile", "smoke", "--output", "out")
    assert done.exit_code == 0, done.output
    assert "not here - all as expected" in done.stdout
    assert read(here / "out").run.unexpected == 0
    fake_run.judge = lambda case: replace(broken(case, "error"), missing="torch")
    assert shardproof("run", *ONE).exit_code == 1, "nothing was judged"


def test_results_go_to_a_folder_of_their_own(shardproof, fake_run, here: Path) -> None:
    for _ in range(2):
        assert shardproof("run", *ONE).exit_code == 0
    assert len(list((here / "shardproof-results").glob("*/run.json"))) == 2


def test_a_failure_says_where_why_and_how_to_reproduce(shardproof, fake_run) -> None:
    fake_run.judge = failing
    done = shardproof("run", *ONE)
    assert done.exit_code == 1
    for part in (
        "FAIL tensor/mlp[jax-shard_map-tensor2-float64]",
        "logic: step 1: gradients/layers.0.attention.query_norm.scale is off by 4e-10",
        "(rank 1)",
        "likely: reduction missing: the copies are partial sums on axis tensor (confidence 97%)",
        "reproduce: shardproof run --contract tensor/mlp --implementation jax-shard_map --mesh tensor=2 --dtype",
        "1 not as expected",
    ):
        assert part in done.stdout


def test_a_failure_that_depends_on_earlier_cases_says_so_and_names_them(shardproof, fake_run) -> None:
    alone, earlier = "Alone in fresh processes it passes.", "tensor/layer[jax-shard_map-tensor2-float64]"
    fake_run.judge = lambda case: replace(failing(case), alone=alone, after=(earlier,))
    done = shardproof("run", *ONE, "--check", "logic")
    assert fake_run.how["alone"] is True
    assert f"\n  {alone}\n" in done.stdout
    both = f"--case '{earlier}' --case 'tensor/mlp[jax-shard_map-tensor2-float64]'"
    assert f"reproduce: shardproof run {both} --check logic" in done.stdout


@pytest.mark.parametrize("verdict", ["hang", "crash", "error", "unsupported"])
def test_every_other_verdict_fails_the_run(shardproof, fake_run, verdict: str) -> None:
    fake_run.judge = lambda case: broken(case, verdict)
    assert shardproof("run", *ONE).exit_code == 1


def test_a_refusal_that_the_matrix_expects_is_fine(shardproof, fake_run) -> None:
    fake_run.judge = lambda case: broken(case, "unsupported")
    words = ("--contract", "tensor/attention_mha_fused", "--implementation", "jax-shard_map", "--mesh", "tensor=3")
    assert shardproof("run", *words, "--dtype", "float64").exit_code == 0


def test_a_run_that_judged_nothing_fails(shardproof, fake_run, monkeypatch) -> None:
    fake = type("Nothing", (), {"seconds": 0.0})()
    monkeypatch.setattr("conformance.cli.run.run_cases", lambda cases, **rest: fake)
    assert shardproof("run", *ONE).exit_code == 1


def test_json_is_nothing_but_json(shardproof, fake_run) -> None:
    done = shardproof("run", "--profile", "smoke", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["verdict"] for line in lines[:-1]] == ["pass"] * SMOKE
    assert lines[-1]["totals"] == {"pass": SMOKE}


def test_only_the_checks_that_were_asked_for(shardproof, fake_run, here: Path) -> None:
    assert shardproof("run", "--profile", "smoke", "--check", "logic", "--output", "out").exit_code == 0
    assert [check.name for check in fake_run.checks] == ["logic"]
    assert {case.dtype for case in fake_run.cases} == {"float64"}  # logic says nothing about other dtypes
    assert read(here / "out").records[0].reproduce.endswith("--check logic")


def test_resume_runs_what_is_missing(shardproof, fake_run, here: Path) -> None:
    first = shardproof("run", "--profile", "smoke", "--output", "out")
    path = here / "out" / "cases.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:12]) + lines[12][:100])
    again = shardproof("run", "--resume", "out")
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert len(fake_run.cases) == SMOKE - 12
    both = read(here / "out")
    assert len(both.records) == SMOKE
    assert both.run.overhead == overhead(both.records) is not None, "of both parts"
    assert "line 13 cannot be read" in again.stderr


def test_resume_of_a_finished_run_runs_nothing(shardproof, fake_run) -> None:
    shardproof("run", *ONE, "--output", "out")
    fake_run.cases = []
    assert shardproof("run", "--resume", "out").exit_code == 0
    assert fake_run.cases == []


def test_an_interrupted_run_keeps_its_records(shardproof, fake_run, here: Path) -> None:
    def judge(case):
        if len(read(here / "out").records) == 3:
            raise KeyboardInterrupt
        return passing(case)

    fake_run.judge = judge
    done = shardproof("run", "--profile", "smoke", "--output", "out")
    assert done.exit_code == 130
    assert f"Interrupted: 3 of {SMOKE} cases are recorded; go on with shardproof run --resume out" in done.stderr
    assert f"Not finished: 3 of {SMOKE} cases in" in done.stdout
    assert (here / "out" / "report.html").is_file()
    assert len(read(here / "out").records) == 3
    fake_run.judge = passing
    again = shardproof("run", "--resume", "out")
    assert (again.exit_code, len(read(here / "out").records)) == (0, SMOKE)


def test_the_reproduction_of_a_case_is_that_case(shardproof, fake_run) -> None:
    import shlex

    case = one_case()
    assert shardproof(*shlex.split(reproduce(case))[1:]).exit_code == 0
    assert fake_run.cases == [case]
