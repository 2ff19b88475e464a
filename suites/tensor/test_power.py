"""Named faults are killed, their axis is named, and no control is flagged: as published, or better."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance.power import power
from conformance.power_table import PowerRow, PowerTable

PUBLISHED = Path(__file__).parents[2] / "results" / "power" / "power.json"
RIGHT_AXES = 0.9


@pytest.fixture(scope="module")
def table() -> PowerTable:
    return power(["tensor"], generated=False)


@pytest.mark.timeout(1200)
def test_every_fault_is_killed_and_no_control_is(table: PowerTable) -> None:
    assert table.rows
    assert [row for row in table.rows if not row.as_expected] == []


@pytest.mark.timeout(1200)
def test_the_axis_is_named(table: PowerTable) -> None:
    share = table.totals.right_axis_share
    assert share is not None
    assert share >= RIGHT_AXES


@pytest.mark.timeout(1200)
def test_nothing_that_was_published_as_killed_survives(table: PowerTable) -> None:
    rows = json.loads(PUBLISHED.read_text())["rows"]
    killed = {_name(row) for row in rows if row["kind"] == "fault" and row["killed"]}
    assert killed
    assert killed <= {_name(row.record()) for row in table.rows if row.killed}


def _name(row: dict[str, object]) -> tuple[object, ...]:
    return tuple(row[key] for key in ("id", "implementation", "mesh", "contract", "dtype"))


def test_the_published_table_has_every_kind() -> None:
    rows = json.loads(PUBLISHED.read_text())["rows"]
    assert {row["kind"] for row in rows} == {"fault", "mutation", "control"}
    assert {field for row in rows for field in row} >= set(PowerRow.__dataclass_fields__)
