"""What is published of fuzzing: runs that are done again take the place of earlier ones, and no place is told."""

from __future__ import annotations

from pathlib import Path

from conformance.cases.case import Case
from conformance.contract.mesh import Mesh
from conformance.fuzz.search import Fuzzed
from conformance.fuzz.table import PAGE, add, read, run_of
from conformance.records.results import CaseResult


def test_a_run_that_is_done_again_takes_the_place_of_the_one_that_failed(tmp_path: Path) -> None:
    case = Case(contract="a/b", implementation="mine", mesh=Mesh.parse("data=2"), dtype="float64")
    broken = CaseResult(
        case=case, framework="jax", verdict="error", checks=(), reason="TypeError: no\n\n(at /home/me/x.py:3, `f()`)"
    )
    failed = Fuzzed(verdicts={"pass": 1, "error": 1}, seconds=60.0, failure=broken)
    add(run_of("mine", 1, 0, 2.0, failed, {}), tmp_path)
    [run] = read(tmp_path)
    assert run.said == "TypeError: no"
    assert f"* `{case.id}`: TypeError: no" in (tmp_path / PAGE).read_text()
    add(run_of("mine", 1, 0, 2.0, Fuzzed(verdicts={"pass": 8}, seconds=120.0), {}), tmp_path)
    [again] = read(tmp_path)
    assert not again.failing
    assert "| 1 | 8 | 2.0 | 4.0 | 8 pass |" in (tmp_path / PAGE).read_text()
