"""`shardproof judge`: captured runs held to a recording, offline; a table, records and a report."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from conformance.capture.captured import read_captured
from conformance.capture.judged import BATCH, CHECKS, judged, reproduce
from conformance.capture.meshes import over_meshes
from conformance.capture.truth import Truth, read_truth
from conformance.cases.usage import UsageError
from conformance.cli.results_folder import fresh
from conformance.records import environment, formatting
from conformance.records.recorder import Recorder
from conformance.records.records import CaseRecord
from conformance.records.results import CaseResult
from conformance.records.run_record import RunRecord
from conformance.report import terminal, write_html

HEAD = ("run", "mesh", "dtype", "verdict", "error/bound", "first at", "likely cause", "axis")


def judge(single: Path, runs: Sequence[Path], *, output: Path | None, as_json: bool) -> int:
    """The exit status: 0 all pass, 1 one does not; a run that cannot be read is a UsageError, and none is judged."""
    truth = read_truth(single)
    if not as_json:
        print(truth.oracle)
    started, named = time.perf_counter(), list(dict.fromkeys(runs))
    results = [_judged(run, truth) for run in named]
    recorder = Recorder(output or fresh(), _run_record(truth, named))
    for run, result in zip(named, over_meshes(results), strict=True):
        recorder.append(CaseRecord.of(result, reproduce(single, run)))
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    recorder.close(finished=finished, seconds=time.perf_counter() - started)
    report = write_html(recorder.directory)
    if as_json:
        for record in recorder.records:
            print(record.model_dump_json())
    else:
        _show(recorder, str(report))
    return 1 if recorder.run.unexpected else 0


def _judged(run: Path, truth: Truth) -> CaseResult:
    print(f"judging {run}", file=sys.stderr, flush=True)
    if run.resolve() == truth.folder.resolve():
        raise UsageError(f"'{run}' is the recording itself: give the runs that are to be judged by it.")
    started = time.perf_counter()
    result = judged(read_captured(run, truth), truth)
    return replace(result, seconds=time.perf_counter() - started)


def _show(recorder: Recorder, report: str) -> None:
    if len(recorder.records) > 1:
        terminal.show_table(HEAD, [_row(record) for record in recorder.records])
    terminal.show(recorder.records, recorder.run, report)


def _row(record: CaseRecord) -> tuple[str, ...]:
    failing = next(iter(record.failing), None)
    causes = [cause for check in record.failing for cause in check.diagnosis]
    cause = max(causes, key=lambda cause: cause.confidence, default=None)
    return (
        record.implementation,
        str(record.layout),
        record.dtype,
        record.verdict,
        formatting.ratio(record.worst.ratio if record.worst else None),
        (failing.first if failing else None) or "",
        f"{cause.cause} ({cause.confidence:.0%})" if cause else "",
        (cause.axis if cause else None) or "",
    )


def _run_record(truth: Truth, runs: Sequence[Path]) -> RunRecord:
    return RunRecord(
        version=environment.packages()["shardproof"] or "unknown",
        hash=environment.content_hash(),
        command=["shardproof", *sys.argv[1:]],
        checks=[check.name for check in (BATCH, *CHECKS)],
        packages=environment.packages(),
        machine=environment.machine(),
        flags=environment.flags(),
        devices="real",
        seeds=[0],
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        planned=len(runs),
    )
