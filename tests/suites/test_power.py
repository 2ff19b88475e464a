"""Named faults are killed, their axis and cause are named, and no control is flagged: as published, or better.

Here each fault is planted once, frameworks in turn, and each implementation is a control once; of two faults in five
the axis and the cause are asked, which takes further runs. `shardproof power` plants everywhere and asks of all.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance.cases.suite import suites
from conformance.power.measure import power
from conformance.power.reliability import unreliable
from conformance.power.table import UNSAID, WRONG, PowerRow, PowerTable

PUBLISHED = Path(__file__).parents[2] / "results" / "power" / "power.json"
SINCE_CONFIDENCES = {"confidence", "axis_confidence", "place"}
RIGHT = 0.95  # of the axes, and of the causes, that the diagnosis must name


# Where tests are spread over processes all of a suite go to one, and suites of many faults start first.
LONGEST_FIRST = sorted(suites(), key=lambda name: len(suites()[name].faults), reverse=True)
APART = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in LONGEST_FIRST]


@pytest.fixture(scope="module", params=APART)
def table(request: pytest.FixtureRequest) -> PowerTable:
    return power([request.param], generated=False, each_once=True)


@pytest.mark.timeout(3000)
def test_every_fault_is_killed_and_no_control_is(table: PowerTable) -> None:
    assert table.rows
    assert [row for row in table.rows if not row.as_expected] == []


@pytest.mark.timeout(3000)
def test_axis_and_cause_are_named(table: PowerTable) -> None:
    totals, [name] = table.totals, table.suites
    assert totals.diagnosed or not any(fault.axis for fault in suites()[name].faults)
    assert totals.explained
    assert totals.right_axes >= RIGHT * totals.diagnosed, [row for row in table.rows if row.right_axis is False]
    missed = [row for row in table.rows if row.judged_cause in (UNSAID, WRONG)]
    assert totals.right_causes >= RIGHT * totals.explained, missed


@pytest.mark.timeout(3000)
def test_nothing_that_was_published_as_killed_survives(table: PowerTable) -> None:
    rows = json.loads(PUBLISHED.read_text())["rows"]
    [suite] = table.suites
    published = {_name(row): row["killed"] for row in rows if row["kind"] == "fault" and _suite(row) == suite}
    now = {_name(row.record()): row.killed for row in table.rows if row.kind == "fault"}
    assert {name[0] for name in now} == {name[0] for name in published}
    assert now.keys() <= published.keys()
    assert [name for name, killed in now.items() if published[name] and not killed] == []


def _name(row: dict[str, object]) -> tuple[object, ...]:
    return tuple(row[key] for key in ("id", "implementation", "mesh", "contract", "dtype"))


def _suite(row: dict[str, object]) -> str:
    return str(row["contract"]).partition("/")[0]


def test_the_published_table_has_every_kind() -> None:
    rows = json.loads(PUBLISHED.read_text())["rows"]
    assert {_suite(row) for row in rows} == set(suites())
    assert {row["kind"] for row in rows} == {"fault", "mutation", "control"}
    asked = set(PowerRow.__dataclass_fields__)
    if not any("confidence" in row for row in rows):  # a table from before rows had confidences
        asked -= SINCE_CONFIDENCES
    assert {field for row in rows for field in row} >= asked


def test_what_is_said_surely_is_right_as_often() -> None:
    """Of all axes, and of all causes, that the published table says at 0.8 or more, at least 95 % are right."""
    assert unreliable(PowerTable.read(PUBLISHED.parent)) == []
