"""The kill table: what counts, what is expected, and that it is written in an order that means something."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from conformance.cases.case import Case
from conformance.contract.alteration import Alteration
from conformance.contract.mesh import Mesh
from conformance.power import equivalence, measure, planted
from conformance.power.table import PowerRow, PowerTable

ROW = PowerRow(
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
    axis="tensor",
    cause="reduction missing",
)


def test_a_kill_a_survivor_an_equivalent_and_a_control() -> None:
    survivor = replace(ROW, id="drop@12", verdict="pass", axis=None)
    equivalent = replace(survivor, id="repeat@4", equivalent="the maximum of a maximum is that maximum")
    broken = replace(ROW, id="local@5", verdict="error", cannot_run="wrong shape")
    alarm = replace(ROW, kind="control", id="unchanged")
    table = PowerTable.of([ROW, equivalent, broken, survivor, alarm])
    assert [row.id for row in table.rows] == ["drop@12", "unchanged", "drop@3", "repeat@4", "local@5"]
    totals = table.totals
    assert (totals.planted, totals.killed, totals.power) == (2, 1, 0.5)
    assert (totals.diagnosed, totals.right_axes, totals.right_axis_share) == (1, 1, 1.0)
    assert (totals.equivalent, totals.cannot_run, totals.controls, totals.false_alarms) == (1, 1, 1, 1)
    assert [row.as_expected for row in table.rows] == [False, False, True, True, True]


def test_only_a_check_kills_unless_the_fault_breaks_runs() -> None:
    assert not replace(ROW, verdict="crash", seen_by=()).killed
    assert replace(ROW, kind="fault", verdict="hang", seen_by=(), planned=("hang",)).as_expected
    by_accident = replace(ROW, kind="fault", planned=("replicas",))
    assert by_accident.killed
    assert not by_accident.as_expected


def test_a_wrong_axis_is_no_right_axis() -> None:
    assert replace(ROW, axis="data").right_axis is False
    assert replace(ROW, axes=()).right_axis is None
    assert replace(ROW, axes=("data", "tensor"), axis="data").right_axis is True


def test_a_refused_control_is_not_as_expected() -> None:
    assert not replace(ROW, kind="control", verdict="unsupported").as_expected


def test_the_table_is_written_the_same_whatever_the_order(tmp_path: Path) -> None:
    rows = [replace(ROW, id=f"drop@{n}", contract=f"{suite}/mlp") for suite in ("tensor", "moe") for n in (2, 10)]
    page = PowerTable.of(rows).write(tmp_path / "one")
    PowerTable.of(reversed(rows)).write(tmp_path / "two")
    assert page.name == "power.md"
    for name in ("power.json", "power.md", "tensor.md", "moe.md"):
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()
    table = json.loads((tmp_path / "one" / "power.json").read_text())
    assert table["totals"]["killed"] == 4
    assert [row["id"] for row in table["rows"]] == ["drop@2", "drop@10"] * 2


def test_values_are_alike_bit_for_bit_or_but_for_the_order_of_a_sum() -> None:
    x, last = np.array([1.0, 1e-3, -math.inf]), np.array([2.3e-16, 0, 0])
    assert equivalence._alike(x.copy(), x, 0)
    assert not equivalence._alike(x + last, x, 0)
    assert equivalence._alike(x + last, x, equivalence.ULPS)
    assert not equivalence._alike(x + np.array([1e-13, 0, 0]), x, equivalence.ULPS)
    assert not equivalence._alike(x.astype(np.float32), x, equivalence.ULPS)


def test_what_cancels_is_measured_by_the_largest_of_its_kind_in_the_step() -> None:
    values = {
        (1, "gradients/w", 0): np.array([-3.0, 1.0]),
        (1, "gradients/key.bias", 0): np.array([1e-16]),
        (1, "outputs/logits", 0): np.array([50.0, -math.inf]),
        (2, "gradients/w", 0): np.array([2.0]),
    }
    assert equivalence._largest(values) == {(1, "gradients"): 3.0, (1, "outputs"): 50.0, (2, "gradients"): 2.0}


def test_what_is_measured_later_stands_beside_those_that_were(tmp_path: Path) -> None:
    tensor, moe = ROW, replace(ROW, contract="moe/router")
    old = PowerTable.of([tensor, replace(moe, id="drop@1")], {"moe": {"x": "why"}, "tensor": {"y": "why"}})
    old.write(tmp_path)
    assert PowerTable.read(tmp_path) == old
    assert PowerTable.read(tmp_path / "nothing") == PowerTable.of([])
    both = PowerTable.of([moe], {"moe": {}}).beside(PowerTable.read(tmp_path))
    assert set(both.rows) == {tensor, moe}
    assert both.not_applicable == {"moe": {}, "tensor": {"y": "why"}}
    other = replace(moe, implementation="torch-collectives")
    assert set(PowerTable.of([other]).beside(both).rows) == {tensor, moe, other}


def test_an_alteration_is_a_mutation_that_says_why_it_may_survive() -> None:
    case = Case(contract="tensor/mlp", implementation="x", mesh=Mesh.parse("tensor=2"), dtype="float64")
    alteration = Alteration(
        operator="swap", site=7, what="swapped", axis="tensor", seen_by=("error",), neutral="it is lawful"
    )
    made = planted._alteration(case, alteration)
    survivor = replace(ROW, id="swap@7", verdict="pass", axis=None)
    assert (str(made.case.mutation), made.axes, made.planned) == ("swap@7", ("tensor",), ("error",))
    assert measure._proven(made, survivor, None).equivalent == "it is lawful"  # type: ignore[arg-type]
    assert measure._proven(made, ROW, None).equivalent is None  # type: ignore[arg-type]
