"""The table of injuries: one row of it is done here, and the published one has every row as it must be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from tests.reliability.rows import Row, in_a_case, injuries
from tests.workers.conftest import needs

PUBLISHED = Path(__file__).parents[2] / "results" / "reliability" / "reliability.json"


def test_an_abort_costs_its_case_alone() -> None:
    needs("torch")
    row = in_a_case("abort", "Aborts", "torch", "crash")
    assert row.wrong == ""
    assert (row.came, row.lost, row.left) == ("crash", 0, 0)


def test_whatever_is_not_as_it_must_be_is_said() -> None:
    good = Row(injury="abort", where="jax", must="crash", came="crash", lost=0, left=0, next_seconds=2.0)
    assert good.wrong == ""
    for changed in ({"came": "hang"}, {"lost": 1}, {"left": 2}, {"next_seconds": None}):
        assert replace(good, **changed).wrong.startswith("abort, jax: ")


def test_the_published_table_is_whole_and_nothing_was_lost_in_it() -> None:
    rows = [Row(**row) for row in json.loads(PUBLISHED.read_text())]
    assert [row.wrong for row in rows if row.wrong] == []
    assert {(row.injury, row.where) for row in rows} == {(injury, where) for injury, where, _ in injuries()}
