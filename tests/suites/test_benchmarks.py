"""The asv package: every suite has its series, one case is measured at a time, and what fails has no figure."""

from __future__ import annotations

import inspect
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from conformance.cases.case import DTYPES, Case
from conformance.cases.resolve import resolve
from conformance.cases.suite import suites
from conformance.cases.usage import choose
from conformance.contract.mesh import Mesh
from conformance.contract.timeline import Bar, Lane, Timeline
from suites.benchmarks import kept, measured, series

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "asv"
COMMITS = 3


def _series(module: str, base: type) -> list[Any]:
    content = vars(import_module(f"suites.benchmarks.{module}")).values()
    return [
        each for each in content if inspect.isclass(each) and issubclass(each, base) and not inspect.isabstract(each)
    ]


@pytest.mark.parametrize("suite", sorted(suites()))
def test_every_suite_has_series_of_cases_that_there_are(suite: str) -> None:
    steps, sizes = _series(suite, series.Step), _series(suite, series.Bytes)
    assert steps
    assert sizes
    for each in steps:
        for name in each.params[0]:
            for dtype in each.params[1]:
                case = Case(
                    contract=each.contract, implementation=name, mesh=Mesh.parse(each.mesh),
                    dtype=choose("dtype", dtype, DTYPES),
                )  # fmt: skip
                assert case.suite == suite
                assert resolve(case).path
    assert {name for each in sizes for name in each.params[0]} <= {name for each in steps for name in each.params[0]}


def test_a_case_is_measured_once_and_what_fails_has_no_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    asked = []

    def figures(name: str) -> dict[str, float]:
        asked.append(name)
        if name == "wrong":
            raise kept.NotMeasured("wrong is fail: its figures mean nothing.")
        return {"seconds": 1.5}

    monkeypatch.setattr(measured, "figures", figures)
    assert [kept.kept("measured", ("right",)) for _ in range(2)] == [{"seconds": 1.5}] * 2
    for _ in range(2):
        with pytest.raises(kept.NotMeasured, match="wrong is fail"):
            kept.kept("measured", ("wrong",))
    assert asked == ["right", "wrong"]


def test_a_bubble_is_what_is_bare_between_the_bars() -> None:
    bars = (Bar(start=0, end=1, kind="forward", label="0"), Bar(start=1, end=4, kind="backward", label="0"))
    lanes = (Lane(name="0", bars=bars), Lane(name="1", bars=bars[:1]))
    assert measured.idle(Timeline(title="", unit="", lanes=lanes)) == pytest.approx(3 / 8)


def test_every_series_is_published_for_several_commits() -> None:
    known = {name for name in json.loads((RESULTS / "benchmarks.json").read_text()) if name != "version"}
    of_suites = {name.partition(".")[0] for name in known}
    assert {*suites(), "scale", "power", "reliability"} <= of_suites
    files = [path for path in RESULTS.glob("*/*.json") if path.name != "machine.json"]
    results = [json.loads(path.read_text())["results"] for path in files]
    for name in known:
        values = [each[name][0] for each in results if each.get(name)]
        measured_at = [row for row in values if row and any(value is not None and value == value for value in row)]
        assert len(measured_at) >= COMMITS or name.startswith("real."), name
