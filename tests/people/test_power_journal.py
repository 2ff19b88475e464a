"""An interrupted measurement of power goes on where it stopped, and only by the code that began it."""

from __future__ import annotations

from pathlib import Path

import pytest
from people_records import failing, passing

from conformance.cases.case import Case, Mutation
from conformance.contract.mesh import Mesh
from conformance.power import journal as journals
from conformance.power import measure
from conformance.power.journal import Journal
from conformance.power.planted import Planted

CASES = [
    Case(contract="tensor/mlp", implementation="jax-shard_map", mesh=Mesh.parse("tensor=2"), dtype="float64",
         mutation=Mutation(operator="drop", site=number))
    for number in range(3)
]  # fmt: skip
PLANTED = [Planted(case=case, kind="mutation", what="dropped") for case in CASES]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    kept = Journal(tmp_path / "tensor.unfinished.jsonl")
    assert kept.results() == {}
    kept.add(failing(CASES[0]))
    kept.add(passing(CASES[1]))
    return tmp_path / "tensor.unfinished.jsonl"


def test_what_was_judged_comes_back_as_it_was(path: Path) -> None:
    known = Journal(path).results()
    assert list(known) == [CASES[0].id, CASES[1].id]
    before = failing(CASES[0])
    assert (known[CASES[0].id].verdict, known[CASES[0].id].checks) == (before.verdict, before.checks)


def test_a_line_that_was_cut_off_costs_that_line_alone(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])
    Journal(path).add(failing(CASES[2]))
    assert list(Journal(path).results()) == [CASES[0].id, CASES[2].id]


def test_other_code_begins_anew(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "content_hash", lambda: "other")
    assert Journal(path).results() == {}
    assert path.read_text().count("\n") == 1


def test_only_what_is_missing_is_judged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Case] = []

    def run(cases, *, on_result, **rest) -> None:
        asked.extend(cases)
        for case in cases:
            on_result(failing(case))

    monkeypatch.setattr(measure, "run", run)
    results = measure._judged(PLANTED, workers=None, on_progress=lambda sentence: None, journal=Journal(path))
    assert asked == [CASES[2]]
    assert [results[case.id].verdict for case in CASES] == ["fail", "pass", "fail"]
    assert len(Journal(path).results()) == 3


def test_a_table_that_is_whole_leaves_no_journal(path: Path) -> None:
    Journal(path).end()
    assert list(path.parent.iterdir()) == []
