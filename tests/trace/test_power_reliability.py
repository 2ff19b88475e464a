"""How often what the diagnosis says is right: what counts as said, what as right, and what is published of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from conformance.cases.case import Case
from conformance.cases.fault import NO_AXIS
from conformance.contract.mesh import Mesh
from conformance.power import measure, planted
from conformance.power.reliability import BANDS, TENTHS, bands, general, main, statements, unreliable
from conformance.power.table import PowerRow, PowerTable
from conformance.records.results import Cause
from conformance.trace.operators import OPERATORS
from conformance.trace.site import Site
from suites.pipeline.mutants import OPERATORS as ALTERATIONS

PUBLISHED = Path(__file__).parents[2] / "results" / "power"
RIGHT = PowerRow(
    kind="mutation",
    id="drop@3",
    what="forward all_reduce over tensor of 4x8",
    contract="tensor/mlp",
    implementation="jax-shard_map",
    mesh="data=2,tensor=4",
    dtype="float64",
    verdict="fail",
    seen_by=("logic",),
    axes=("tensor",),
    causes=("missing", "something local"),
    axis="tensor",
    cause="reduction missing: the copies are partial sums",
    confidence=0.97,
    axis_confidence=0.85,
)
WRONG = replace(RIGHT, axis="data", cause="stale by one step")
PLACE = replace(RIGHT, cause="wrong on positions [1, 2] along the axis only", confidence=0.88, place=True)
FOUND = replace(PLACE, cause="copies differ: something local was taken for global")
SILENT = replace(RIGHT, axis=None, cause=None, confidence=None, axis_confidence=None)
CONTROL = replace(RIGHT, kind="control", id="unchanged", axes=(), causes=())
PASSING = replace(SILENT, kind="control", id="unchanged", axes=(), causes=(), verdict="pass", seen_by=())
OLD = replace(RIGHT, confidence=None, axis_confidence=None)


def said(rows: Iterable[PowerRow], about: str) -> list[tuple[float, bool]]:
    return [(statement.confidence, statement.right) for statement in statements(rows) if statement.about == about]


def test_an_axis_and_a_cause_are_two_statements() -> None:
    assert said([RIGHT, WRONG], "axis") == [(0.85, True), (0.85, False)]
    assert said([RIGHT, WRONG], "cause") == [(0.97, True), (0.97, False)]
    assert {statement.planted for statement in statements([RIGHT])} == {"drop"}


def test_a_place_is_no_cause_but_its_axis_counts() -> None:
    assert [row.judged_cause for row in (RIGHT, WRONG, PLACE, FOUND, SILENT)] == [
        "right", "wrong", "unsaid", "right", "unsaid",
    ]  # fmt: skip
    assert [row.right_cause for row in (RIGHT, WRONG, PLACE, FOUND, SILENT)] == [True, False, None, True, None]
    assert said([PLACE, FOUND, SILENT], "cause") == []
    assert said([PLACE, FOUND, SILENT], "axis") == [(0.85, True), (0.85, True)]


def test_any_axis_is_wrong_where_none_must_be_named() -> None:
    fault = replace(RIGHT, kind="fault", id="no-clipping", axes=(NO_AXIS,))
    silent = replace(fault, axis=None, axis_confidence=None)
    assert (fault.right_axis, silent.right_axis) == (False, True)
    assert said([fault, silent], "axis") == [(0.85, False)]


def test_whatever_is_said_of_a_control_is_wrong() -> None:
    place = replace(CONTROL, place=True, axis=None, axis_confidence=None)
    assert said([CONTROL, place, PASSING], "axis") == [(0.85, False)]
    assert said([CONTROL, place, PASSING], "cause") == [(0.97, False), (0.97, False)]


@pytest.mark.parametrize(
    "row",
    [
        OLD,
        replace(RIGHT, axes=(), causes=()),
        replace(RIGHT, equivalent="it changes nothing"),
        replace(RIGHT, cannot_run="wrong shape"),
    ],
)
def test_what_has_no_confidence_or_no_known_truth_is_left_out(row: PowerRow) -> None:
    assert statements([row]) == []


def test_bands_have_their_lower_end_and_hold_everything() -> None:
    sure = [replace(RIGHT, confidence=value) for value in (0.0, 0.499, 0.5, 0.799, 0.8, 1.0)]
    wrong = [replace(WRONG, confidence=0.8)]
    causes = [statement for statement in statements([*sure, *wrong]) if statement.about == "cause"]
    shares = {name: (share.said, share.right) for name, share in bands(causes).items()}
    assert shares == {"0.8 and more": (3, 2), "0.5 to 0.8": (2, 2), "below 0.5": (2, 2)}
    assert bands([])[BANDS[0][0]].share == 0
    tenths = bands(causes, TENTHS)
    assert {name: share.said for name, share in tenths.items() if share.said} == {
        "0.0": 1, "0.4": 1, "0.5": 1, "0.7": 1, "0.8": 2, "0.9": 1,
    }  # fmt: skip
    assert tenths["0.9"].confidence == 1.0


def test_causes_without_their_names_and_numbers() -> None:
    assert general("bias 'layers.0.bias' not added") == "bias '...' not added"
    assert (
        general("shards permuted: ranks of fsdp hold those of [1, 0]")
        == "shards permuted: ranks of fsdp hold those of [...]"
    )
    assert general("scaled by -2.5e-07") == "scaled by n"
    assert general("shifted by -1 along dim 0") == "shifted by n along dim n"
    for kept in ("gradients reduced in bfloat16", "a mean: 1/size-of-axis of it", "computed in float8_e4m3fn"):
        assert general(kept) == kept


def test_what_is_said_surely_and_wrongly_too_often_is_reported() -> None:
    assert unreliable(PowerTable.of([RIGHT] * 95 + [WRONG] * 5)) == []
    assert unreliable(PowerTable.of([replace(WRONG, confidence=0.79, axis_confidence=0.79)] * 9)) == []
    assert unreliable(PowerTable.of([OLD, PLACE, SILENT, PASSING])) == []
    axes, causes = unreliable(PowerTable.of([RIGHT] * 94 + [WRONG] * 5 + [CONTROL]))
    assert axes.startswith("Of 100 axes that are said at 0.8 or more, 94 are right (94.0%), and 95% should be")
    assert "Of 100 causes" in causes
    assert "most often wrong: 'stale by one step' for drop, 5 times." in causes


def test_totals_tell_the_unsaid_from_the_wrong() -> None:
    faults = [replace(row, kind="fault", id="mean") for row in (RIGHT, WRONG, SILENT)]
    totals = PowerTable.of([RIGHT, PLACE, FOUND, CONTROL, *faults]).totals
    assert (totals.explained, totals.right_causes) == (6, 3)
    assert "(faults: 1 right, 1 unsaid, 1 wrong; mutations: 2 right, 1 unsaid, 0 wrong)" in str(totals)
    assert totals.record()["fault_causes"] == {"right": 1, "unsaid": 1, "wrong": 1}


@pytest.fixture
def table() -> PowerTable:
    clipping = replace(SILENT, kind="fault", id="no-clipping", axes=(NO_AXIS,), causes=("clipping",))
    return PowerTable.of([RIGHT, WRONG, PLACE, CONTROL, OLD, PASSING, clipping])


def test_the_page_says_how_often_and_of_what(table: PowerTable, tmp_path: Path) -> None:
    table.write(tmp_path)
    page = (tmp_path / "reliability.md").read_text()
    for line in (
        "| axis | all | 0.8 and more | 4 | 2 | 50.0% |",
        "| cause | mutation | 0.8 and more | 2 | 1 | 50.0% |",
        "| cause | control | 0.8 and more | 1 | 0 | 0.0% |",
        "Where no axis must be named, none is in 1 of 1.",
        "Of 4 killed bugs whose cause is known, 2 get no cause, or only a place.",
        "Left out, since an older table had no confidence: 1 row.",
        "| reduction missing: the copies are partial sums | why | 2 | 1 | 0.97 | control 1 |",
        "| stale by one step | why | 1 | 0 | 0.97 | drop 1 |",
        "| wrong on positions [...] along the axis only | where | 1 | 0 | 0.88 |  |",
    ):
        assert line in page


def test_the_page_and_the_picture_are_made_again_from_the_table(table: PowerTable, tmp_path: Path) -> None:
    table.write(tmp_path)
    assert PowerTable.read(tmp_path) == table
    files = [tmp_path / "reliability.md", tmp_path / "reliability.svg"]
    written = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    assert main([str(tmp_path)]) == 1
    assert [file.read_bytes() for file in files] == written
    assert main([str(tmp_path / "nothing")]) == 2


def test_a_table_of_before_there_were_confidences_is_read(tmp_path: Path) -> None:
    PowerTable.of([RIGHT]).write(tmp_path)
    file = tmp_path / "power.json"
    content = json.loads(file.read_text())
    for name in ("confidence", "axis_confidence", "place"):
        del content["rows"][0][name]
    file.write_text(json.dumps(content))
    assert PowerTable.read(tmp_path).rows == (OLD,)


def test_mutations_and_alterations_know_their_causes() -> None:
    assert all(operator.causes for operator in (*OPERATORS.values(), *ALTERATIONS.values()))
    case = Case(contract="tensor/mlp", implementation="x", mesh=Mesh.parse("tensor=2"), dtype="float64")
    site = Site(number=3, kind="all_reduce", axes=("tensor",), phase="forward", shape=(2,), operators=("drop",))
    assert planted._mutation(case, site, "drop").causes == OPERATORS["drop"].causes


def test_a_row_says_the_surest_cause_as_surely() -> None:
    best = Cause(cause="stale by one step", axis="data", confidence=0.95, axis_confidence=0.5)
    row = measure._saying(SILENT, best)
    assert (row.cause, row.axis, row.confidence, row.axis_confidence, row.place) == (
        best.cause,
        "data",
        0.95,
        0.5,
        False,
    )
    place = Cause(cause="wrong on one device too", axis=None, confidence=0.85, place=True)
    row = measure._saying(SILENT, place)
    assert (row.axis, row.confidence, row.axis_confidence, row.place) == (None, 0.85, None, True)
    assert measure._saying(SILENT, None) == SILENT


def test_what_is_published_as_sure_is_right() -> None:
    table = PowerTable.read(PUBLISHED)
    if not any(row.confidence is not None for row in table.rows):
        pytest.skip("results/power/power.json was written before rows had confidences: run `shardproof power` anew")
    assert unreliable(table) == []
