"""Fixtures of the tests of what people see: an own working folder, the command line, a run without workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from people_records import passing
from typer.testing import CliRunner, Result

from conformance.cases.case import Case
from conformance.records.results import CaseResult

Judge = Callable[[Case], CaseResult]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shardproof() -> Callable[..., Result]:
    """Call the command line: `shardproof("run", "--profile", "smoke")`."""
    from conformance.cli.main import app

    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


class FakeRun:
    """Stands for `conformance.runner.run.run`: judges every case by `judge`; remembers which it was given."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.checks: Sequence = ()
        self.how: dict = {}
        self.judge: Judge = passing

    def __call__(self, cases, *, checks=None, on_result, on_progress, **how):
        self.cases, self.checks, self.how = list(cases), checks, how
        for case in cases:
            on_progress(case.id)
            on_result(self.judge(case))
        return SimpleNamespace(seconds=2.5)


@pytest.fixture
def fake_run(monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    fake = FakeRun()
    monkeypatch.setattr("conformance.cli.run.run_cases", fake)
    return fake
