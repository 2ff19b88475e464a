"""`shardproof judge`: captured runs held to a recording, offline; a table, records and a report."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from conformance.capture.captured import read_captured
from conformance.capture.judged import BATCH, CHECKS, judged, reproduce, unjudged
from conformance.capture.launch import LaunchFailed, launched
from conformance.capture.meshes import over_meshes
from conformance.capture.orders import Orders
from conformance.capture.reference_run import ReferenceRun, read_reference_run
from conformance.cases.usage import UsageError
from conformance.cli.results_folder import fresh
from conformance.records import environment, formatting
from conformance.records.recorder import Recorder
from conformance.records.records import CaseRecord
from conformance.records.results import CaseResult
from conformance.records.run_record import RunRecord
from conformance.report import terminal, write_html

HEAD = ("run", "mesh", "dtype", "verdict", "error/bound", "first at", "likely cause", "axis")


def judge(single: Path, runs: Sequence[Path], *, launches: Sequence[str], output: Path | None, as_json: bool) -> int:
    """The exit status: 0 all pass, 1 one does not.

    Among several a run that cannot be judged is an error, with its sentence; by itself it is a UsageError.
    """
    if not runs and not launches:
        raise UsageError("There is nothing to judge: give captured runs, or commands with --launch.")
    recorded, folder = read_reference_run(single), output or fresh()
    if not as_json:
        print(recorded.oracle)
    started = time.perf_counter()
    wrong = _launched(launches, folder, recorded)
    named = list(dict.fromkeys([*runs, *wrong]))
    results = [_judged(run, recorded, wrong.get(run, "")) for run in named]
    if len(results) == 1 and not launches and results[0].verdict == "error":
        raise UsageError(results[0].reason)
    recorder = Recorder(folder, _run_record(recorded, named))
    for run, result in zip(named, over_meshes(results), strict=True):
        recorder.append(CaseRecord.of(result, reproduce(single, run)))
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    recorder.close(finished=finished, seconds=time.perf_counter() - started)
    _shown(recorder, as_json)
    return 1 if recorder.run.unexpected or any(wrong.values()) else 0


def _shown(recorder: Recorder, as_json: bool) -> None:
    report = write_html(recorder.directory)
    if as_json:
        for record in recorder.records:
            print(record.model_dump_json())
    else:
        _show(recorder, str(report))


def _launched(launches: Sequence[str], folder: Path, recorded: ReferenceRun) -> dict[Path, str]:
    """Run each command under a capture of its own, one after the other -> where it is, and what went wrong with it.

    What its ranks had finished is judged all the same.
    """
    captured: dict[Path, str] = {}
    beside = folder.with_name(f"{folder.name}-runs")
    dtype = recorded.rank.dtype if recorded.rank.dtype != recorded.rank.given_dtype else None
    for number, command in enumerate(launches, start=1):
        run = beside / str(number)
        beside.mkdir(parents=True, exist_ok=True)
        print(f"launching {run}: {command}", file=sys.stderr, flush=True)
        captured[run] = ""
        try:
            launched(shlex.split(command), run, Orders(dtype=dtype))
        except (LaunchFailed, UsageError) as wrong:
            print(wrong, file=sys.stderr, flush=True)
            captured[run] = str(wrong)
    return captured


def _judged(run: Path, recorded: ReferenceRun, wrong: str = "") -> CaseResult:
    """What cannot be judged says why; `wrong` is what went wrong with its launch, where it wrote nothing."""
    print(f"judging {run}", file=sys.stderr, flush=True)
    started = time.perf_counter()
    try:
        if wrong and not any(run.glob("rank-*.json")):
            raise UsageError(wrong)
        if run.resolve() == recorded.folder.resolve():
            raise UsageError(f"'{run}' is the recording itself: give the runs that are to be judged by it.")
        result = judged(read_captured(run, recorded), recorded)
    except UsageError as why:
        result = unjudged(run, recorded, str(why))
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


def _run_record(recorded: ReferenceRun, runs: Sequence[Path]) -> RunRecord:
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
