"""The command line: exit statuses, what is printed where, and one sentence for every wrong use."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from people_records import broken, failing, passing, write

from conformance.cases.case import Case
from conformance.cases.resolve import resolve
from conformance.cases.selection import Selection, select
from conformance.cases.suite import suites
from conformance.cases.usage import UsageError
from conformance.records.recorder import read
from conformance.records.reproduce import reproduce
from conformance.records.results import CaseResult, overhead
from conformance.runner.run import CaseRunner
from conformance.workers.jobs import Outcome

SMOKE = len(select(Selection(profile="smoke")))
ONE = ("--contract", "tensor/mlp", "--implementation", "jax-shard_map", "--mesh", "tensor=2", "--dtype", "float64")

CLASS_WITHOUT_STEP = """
from conformance import Implementation

class Mine(Implementation):
    framework = "jax"
    def place(self, parameters, mesh): ...
    def collect(self, state): ...
"""


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


def test_the_version_is_said(shardproof) -> None:
    from conformance.records import environment

    done = shardproof("--version")
    assert (done.exit_code, done.stdout) == (0, f"shardproof {environment.packages()['shardproof']}\n")


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

    case = select_one()
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


def test_what_the_engine_refuses_is_one_sentence_too(shardproof, monkeypatch, here: Path) -> None:
    def refuse(cases, **rest):
        raise UsageError("The parameter 'up.weight' of the contract tensor/mlp is not finite.")

    monkeypatch.setattr("conformance.cli.run.run_cases", refuse)
    done = shardproof("run", *ONE, "--output", "out")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == "The parameter 'up.weight' of the contract tensor/mlp is not finite.\n"


def test_parameters_that_are_no_numbers(shardproof, fake_run, monkeypatch) -> None:
    contract = suites()["tensor"].contract("tensor/mlp")
    monkeypatch.setitem(contract.__dict__, "parameters", lambda seed: {"up.weight": np.array([1.0, np.nan])})
    done = shardproof("run", *ONE)
    assert done.exit_code == 2
    assert done.stderr == "The parameter 'up.weight' of tensor/mlp with seed 0 has values that are not finite.\n"
    assert fake_run.cases == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "tensr"], "Unknown suite 'tensr'"),
        (["run", "--mesh", "tensr=4"], "Unknown mesh axis 'tensr'"),
        (["run", "--mesh", "tensor=100000"], "devices"),
        (["run", "--contract", "tensor/nothing"], "Unknown contract"),
        (["run", "--implementation", "nobody"], "Unknown implementation"),
        (["run", "--framework", "mxnet"], "Unknown framework"),
        (["run", "--profile", "everything"], "Unknown profile"),
        (["run", "--dtype", "int4"], "Unknown dtype"),
        (["run", "--check", "vibes"], "Unknown check"),
        (["run", "--devices", "single"], "not available yet"),
        (["run", "--devices", "real"], "not available yet"),
        (["run", *ONE, "--check", "numerics"], "applies to none"),
        (["run", "--resume", "nowhere"], "no results directory 'nowhere'"),
        (["run", "--resume", "ours", "--output", "other"], "leave out --output"),
        (["run", *ONE, "--output", "ours"], "already holds results"),
        (["run", *ONE, "--output", "theirs"], "holds other files"),
        (["run", *ONE[:2], "--implementation", "gone.py:Mine", "--mesh", "tensor=2"], "There is no file 'gone.py'"),
        (["run", *ONE[:2], "--implementation", "broken.py:Mine", "--mesh", "tensor=2"], "does not import: SyntaxError"),
        (["run", *ONE[:2], "--implementation", "raises.py:Mine", "--mesh", "tensor=2"], "ZeroDivisionError"),
        (["run", *ONE[:2], "--implementation", "exits.py:Mine", "--mesh", "tensor=2"], "ends the process"),
        (["run", *ONE[:2], "--implementation", "nostep.py:Mine", "--mesh", "tensor=2"], "lacks step"),
        (["run", *ONE[:2], "--implementation", "nostep.py:Other", "--mesh", "tensor=2"], "has no class 'Other'"),
        (["report", "theirs"], "is no results directory"),
        (["report", "nowhere"], "no results directory"),
        (["compare", "ours", "theirs"], "is no results directory"),
        (["explain", "tensor/mlp["], "is no case id"),
        (["explain", "tensor/mpl"], "Unknown contract"),
        (["explain", "tensor/none[jax-shard_map-tensor2-float64]"], "Unknown contract"),
        (["explain", "tensor/mlp[nobody-tensor2-float64]"], "Unknown implementation"),
        (["list", "planets"], "suites, contracts"),
        (["power", "tensr"], "Unknown suite"),
        (["run", *ONE, "--timeout", "0"], "leaves no time"),
        (["run", *ONE, "--timeout", "-3"], "leaves no time"),
        (["run", *ONE, "--workers", "0"], "0 workers run nothing"),
        (["run", *ONE[:4], "--mesh", ""], "mesh"),
        (["list", "cases", "--suite", "tensr"], "Unknown suite"),
        (["list", "cases", "--profile", "everything"], "Unknown profile"),
        (["list", "cases", "--contract", "tensor/nothing"], "Unknown contract"),
        (["list", "faults", "--profile", "core"], "have no profile"),
        (["run", "--colour"], "No such option"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(
    shardproof, fake_run, here: Path, words: list[str], said: str
) -> None:
    write(here / "ours", [passing(select_one())])
    (here / "theirs").mkdir()
    (here / "theirs" / "notes.txt").write_text("mine")
    (here / "broken.py").write_text("def (")
    (here / "raises.py").write_text("1 / 0")
    (here / "exits.py").write_text("import os\nos._exit(3)")
    (here / "nostep.py").write_text(CLASS_WITHOUT_STEP)
    done = shardproof(*words)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    if "--colour" not in words:  # the parser of options says it in its own way
        assert done.stderr.count("\n") == 1
        assert done.stderr.endswith(".\n")
    assert len(read(here / "ours").records) == 1
    assert (here / "theirs" / "notes.txt").read_text() == "mine"
    assert not (here / "shardproof-results").exists()


def select_one():
    return select(Selection(contracts=(ONE[1],), implementation=ONE[3], mesh=ONE[5], dtype=ONE[7]))[0]


def test_the_reproduction_of_a_case_is_that_case(shardproof, fake_run) -> None:
    import shlex

    case = select_one()
    assert shardproof(*shlex.split(reproduce(case))[1:]).exit_code == 0
    assert fake_run.cases == [case]


SCRIPT = """
import sys
from typer.testing import CliRunner
from conformance.cli.main import app
for words in (["--help"], ["list", "cases"], ["explain", "tensor/mlp[jax-shard_map-tensor2-float64]"]):
    assert CliRunner().invoke(app, words).exit_code == 0, words
import conformance.cli.run, conformance.report, conformance.report.compare, conformance.runner.run
import conformance.pytest_plugin
print([name for name in ("jax", "torch", "flax") if name in sys.modules])
"""


def test_the_main_process_imports_no_framework() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_command_line_imports_next_to_nothing() -> None:
    names = ("numpy", "pydantic", "rich", "jinja2")
    script = f"import conformance.cli.main, sys; print([m for m in {names} if m in sys.modules])"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]"
    assert time.perf_counter() - started < 5.0  # 0.2 s on an idle machine
