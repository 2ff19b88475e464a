"""Two runs side by side: what got worse, what got better, what came and went."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from people_records import case, failing, passing, write

from conformance.records.recorder import read
from conformance.records.results import CaseResult
from conformance.report.compare import compare


def _runs(here: Path, before: list[CaseResult], after: list[CaseResult]):
    return read(write(here / "a", before)), read(write(here / "b", after))


def test_the_same_run_twice(shardproof, here: Path) -> None:
    old, new = _runs(here, [passing(case())], [passing(case(), ratio=0.31)])
    comparison = compare(old, new)
    assert comparison.changes == ()
    assert comparison.seconds_factor == 1.0
    done = shardproof("compare", here / "a", here / "b")
    assert done.exit_code == 0
    assert "1 case in both runs, nothing changed" in done.stdout


def test_every_kind_of_change(shardproof, here: Path) -> None:
    meshes = ("tensor=2", "tensor=3", "tensor=4", "tensor=8", "data=2,tensor=4")
    worse, better, drift, gone, fresh = (case(mesh=mesh) for mesh in meshes)
    before = [passing(worse), failing(better), passing(drift, 0.1), passing(gone)]
    after = [failing(worse), passing(better, seconds=0.8), passing(drift, 0.4), passing(fresh)]
    old, new = _runs(here, before, after)
    kinds = {change.case: change.kind for change in compare(old, new).changes}
    assert kinds == {
        worse.id: "worse", better.id: "better", drift.id: "ratio", gone.id: "vanished", fresh.id: "new"
    }  # fmt: skip
    done = shardproof("compare", here / "a", here / "b")
    assert done.exit_code == 1
    assert "pass -> fail" in done.stdout
    assert "0.10 -> 0.40 (x 4)" in done.stdout
    assert "1 verdict got worse" in done.stdout


def test_better_is_no_failure(shardproof, here: Path) -> None:
    _runs(here, [failing(case())], [passing(case())])
    assert shardproof("compare", here / "a", here / "b").exit_code == 0


def test_json_with_an_infinite_ratio(shardproof, here: Path) -> None:
    _runs(here, [passing(case(), ratio=0.0)], [failing(case(), ratio=float("inf"))])
    done = shardproof("compare", here / "a", here / "b", "--json")
    (change,) = json.loads(done.stdout, parse_constant=pytest.fail)["changes"]
    assert (change["kind"], change["ratio_after"], change["factor"]) == ("worse", "Infinity", "Infinity")


def test_runs_of_different_cases_are_not_compared(shardproof, here: Path) -> None:
    _runs(here, [passing(case(mesh="tensor=2"))], [passing(case(mesh="tensor=4"))])
    done = shardproof("compare", here / "a", here / "b")
    assert done.exit_code == 1
    assert "have no case in common: nothing was compared." in done.stderr


def test_empty_runs_are_neither_compared_nor_reported_as_good(shardproof, here: Path) -> None:
    _runs(here, [], [])
    assert shardproof("compare", here / "a", here / "b").exit_code == 1
    done = shardproof("report", here / "a")
    assert done.exit_code == 1
    assert "has no record of any case: the reports say nothing." in done.stderr
