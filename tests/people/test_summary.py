"""The end of a run in the terminal: as wide as it is; what could not run here is said and is no failure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from people_records import broken, case, failing, passing, run_record

from conformance.cases.case import Case
from conformance.cases.suite import suites
from conformance.records.records import CaseRecord
from conformance.report.terminal import show, totals
from conformance.report.terminal_table import blocks, show_blocks

LONG = "/home/somebody/work/a/rather/deep/folder/of/their/own/my_parallel_block.py:MyTensorParallelFeedForward"


def _records(suite: str) -> list[CaseRecord]:
    """Every core case of a suite, and one of somebody's own class, with every verdict that there is."""
    cases = suites()[suite].cases("core")
    cases.append(replace(cases[0], implementation=LONG))
    made = (passing, failing, *(_with(verdict) for verdict in ("hang", "crash", "error", "unsupported")), _missing)
    return [CaseRecord.of(made[number % len(made)](drawn)) for number, drawn in enumerate(cases)]


def _with(verdict: str):
    return lambda of: broken(of, verdict)


def _missing(of: Case):
    return replace(broken(of, "error"), reason="torch cannot be imported: No module named 'torch'.", missing="torch")


@pytest.mark.parametrize("columns", [80, 100, 200])
@pytest.mark.parametrize("suite", sorted(suites()))
def test_a_table_is_no_wider_than_the_terminal(suite: str, columns: int, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    records = _records(suite)
    show_blocks(records)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= min(columns, 100)
    names = {record.implementation for record in records} - {LONG}
    for name in names:
        shown = name if columns >= 100 else name[-12:]  # 80 columns have no room for every name with every verdict
        assert any(shown in line.partition(" ")[0] for line in lines), f"{name} can be read"
    assert any(line.startswith("..") and "FeedForward" in line for line in lines), "of a path the end"


def test_rows_are_implementations_and_count_every_case(monkeypatch) -> None:
    records = [record for suite in suites() for record in _records(suite)]
    shown = blocks(records)
    assert [block.title.partition(":")[0] for block in shown] == sorted(suites())
    counted = sum(int(cell or 0) for block in shown for row in block.rows for cell in row[2:-2])
    assert counted == len(records)


def test_a_framework_that_is_missing_is_not_here_and_not_unexpected(capsys) -> None:
    torch = case("tensor/mlp", "torch-collectives")
    records = [CaseRecord.of(passing(case())), CaseRecord.of(_missing(torch))]
    assert [record.outcome for record in records] == ["pass", "not here"]
    show(records, run_record(planned=2, finished="2025-11-21T09:31:23+00:00"), "")
    said = capsys.readouterr().out
    assert "1 pass, 1 not here - all as expected." in said
    assert "Not here: torch cannot be imported: No module named 'torch'." in said
    assert "ERROR" not in said


def test_where_every_framework_is_missing_nothing_was_judged() -> None:
    first, *_ = totals([CaseRecord.of(_missing(case()))], run_record(planned=1))
    assert first.endswith("nothing was judged.")


def test_where_every_case_is_refused_on_one_device_nothing_was_judged_and_the_reason_is_said() -> None:
    refused = replace(broken(replace(case(), devices="single"), "unsupported"), reason="Nothing would be divided.")
    lines = list(totals([CaseRecord.of(refused)], run_record(planned=1)))
    assert lines[0].endswith("1 unsupported - nothing was judged.")
    assert "Refused: Nothing would be divided." in lines
    lines = list(totals([CaseRecord.of(refused), CaseRecord.of(passing(case()))], run_record(planned=2)))
    assert lines[0].endswith("all as expected.")
    assert not [line for line in lines if line.startswith("Refused:")]


def test_a_run_that_was_interrupted_before_its_first_case_has_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    show_blocks([])
    assert capsys.readouterr().out == ""
