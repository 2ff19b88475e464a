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


@pytest.fixture(scope="class")
def table(request: pytest.FixtureRequest) -> PowerTable:
    return power([request.cls.suite], generated=False, each_once=True)


@pytest.mark.timeout(3000)
class OfSuite:
    """What is asked of every suite, a class each: `--dist loadscope` gives all tests of one to one process."""

    suite: str

    def test_every_fault_is_killed_and_no_control_is(self, table: PowerTable) -> None:
        assert table.rows
        assert [row for row in table.rows if not row.as_expected] == []

    def test_axis_and_cause_are_named(self, table: PowerTable) -> None:
        totals = table.totals
        assert totals.diagnosed or not any(fault.axis for fault in suites()[self.suite].faults)
        assert totals.explained
        assert totals.right_axes >= RIGHT * totals.diagnosed, [row for row in table.rows if row.right_axis is False]
        missed = [row for row in table.rows if row.judged_cause in (UNSAID, WRONG)]
        assert totals.right_causes >= RIGHT * totals.explained, missed

    def test_nothing_that_was_published_as_killed_survives(self, table: PowerTable) -> None:
        rows = json.loads(PUBLISHED.read_text())["rows"]
        published = {_name(row): row["killed"] for row in rows if row["kind"] == "fault" and _suite(row) == self.suite}
        now = {_name(row.record()): row.killed for row in table.rows if row.kind == "fault"}
        assert {name[0] for name in now} == {name[0] for name in published}
        assert now.keys() <= published.keys()
        assert [name for name, killed in now.items() if published[name] and not killed] == []


class TestData(OfSuite):
    suite = "data"


class TestSequence(OfSuite):
    suite = "sequence"


class TestPipeline(OfSuite):
    suite = "pipeline"


class TestHybrid(OfSuite):
    suite = "hybrid"


class TestMemory(OfSuite):
    suite = "memory"


class TestMoe(OfSuite):
    suite = "moe"


class TestTensor(OfSuite):
    suite = "tensor"


class TestCollectives(OfSuite):
    suite = "collectives"


def test_every_suite_is_asked() -> None:
    assert {each.suite for each in OfSuite.__subclasses__()} == set(suites())


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
