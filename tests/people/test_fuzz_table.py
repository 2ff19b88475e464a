"""What fuzzing has come to is added run by run, and a command that is started again goes on where it stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conformance.cases.case import Case
from conformance.contract.mesh import Mesh
from conformance.fuzz import __main__ as command
from conformance.fuzz.search import Fuzzed
from conformance.fuzz.table import PAGE, RUNS, FuzzRun, add, page, read, run_of
from conformance.records.results import CaseResult, CheckResult

VERSIONS = {"torch": "2.13.0"}


def _failing() -> Fuzzed:
    case = Case(contract="tensor/mlp~ffn=7", implementation="jax-mine", mesh=Mesh.parse("tensor=3"), dtype="float64")
    checks = (
        CheckResult(check="census", verdict="pass", compared=3),
        CheckResult(check="logic", verdict="fail", compared=3, detail="step 1: loss is off by 1."),
    )
    failure = CaseResult(case=case, framework="jax", verdict="fail", checks=checks)
    return Fuzzed(verdicts={"pass": 4, "fail": 2}, seconds=90.0, failure=failure)


def test_runs_are_added_and_the_page_is_theirs(tmp_path: Path) -> None:
    add(run_of("mine", 2, 0, 4.0, Fuzzed(verdicts={"pass": 3, "unsupported": 1}, seconds=240.0), VERSIONS), tmp_path)
    add(run_of("other", 1, 5, 1.0, _failing(), VERSIONS), tmp_path)
    first, second = read(tmp_path)
    assert (first.cases, first.failing, second.failing) == (4, "", "tensor/mlp~ffn=7[jax-mine-tensor3-float64]")
    text = (tmp_path / PAGE).read_text()
    assert text == page([first, second])
    assert "2 runs, 10 cases in 6 minutes: 7 pass, 1 unsupported, 2 fail." in text
    assert "| `shardproof fuzz mine --minutes 4 --seed 0` | 2 | 4 | 4.0 | 1.0 | 3 pass, 1 unsupported |" in text
    assert "* `tensor/mlp~ffn=7[jax-mine-tensor3-float64]`: step 1: loss is off by 1." in text


def test_a_run_that_is_done_again_takes_the_place_of_the_one_that_failed(tmp_path: Path) -> None:
    add(run_of("mine", 1, 0, 2.0, _failing(), VERSIONS), tmp_path)
    add(run_of("mine", 1, 0, 2.0, Fuzzed(verdicts={"pass": 8}, seconds=120.0), VERSIONS), tmp_path)
    [again] = read(tmp_path)
    assert (again.verdicts, again.failing) == ({"pass": 8}, "")


def test_what_is_said_is_one_line_without_a_place_of_the_machine(tmp_path: Path) -> None:
    failed = _failing()
    assert failed.failure is not None
    broken = replace(failed.failure, checks=(), reason="TypeError: no (at /home/me/x.py:3, `f()`)\nmore")
    assert run_of("mine", 1, 0, 2.0, replace(failed, failure=broken), VERSIONS).said == "TypeError: no"


def test_a_line_that_was_cut_off_is_no_run(tmp_path: Path) -> None:
    add(run_of("mine", 2, 0, 4.0, Fuzzed(verdicts={"pass": 3}, seconds=240.0), VERSIONS), tmp_path)
    with (tmp_path / RUNS).open("a") as file:
        file.write('{"implementation": "oth')
    assert [run.implementation for run in read(tmp_path)] == ["mine"]


def test_the_command_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fuzzed(name: str, minutes: float, seed: int, folder: Path) -> FuzzRun:
        asked.append(name)
        run = run_of(name, 1, seed, minutes, _failing() if name == "b" else Fuzzed(verdicts={}, seconds=1), VERSIONS)
        add(run, folder)
        return run

    monkeypatch.setattr(command, "fuzzed", fuzzed)
    assert command.main([str(tmp_path), "a", "--minutes", "2"]) == 0
    assert command.main([str(tmp_path), "a", "b", "--minutes", "2"]) == 1
    assert asked == ["a", "b"]
    assert command.main([str(tmp_path), "a", "b", "--minutes", "2"]) == 1
    assert asked == ["a", "b", "b"], "what failed is fuzzed again"
    assert command.main([str(tmp_path), "a", "--minutes", "3"]) == 0
    assert asked == ["a", "b", "b", "a"], "longer than before is not yet there"


def test_what_the_frameworks_bring_is_registered() -> None:
    from conformance.fuzz.ground import grounds

    without = [name for name in command.OTHERS if not grounds(name)]
    assert without == []
