"""A run that people interrupt or whose disk refuses: what ended is kept, the rest is no record, a sentence says so."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from people_records import ONE, broken, case, passing, run_record, write

from conformance.cases.case import Case
from conformance.cases.resolve import resolve
from conformance.cases.selection import Selection, select
from conformance.records.recorder import Recorder, read
from conformance.records.records import CaseRecord
from conformance.runner.lanes import Kept, Lane, until_done

CASES = select(Selection(profile="smoke", suites=("tensor",), framework="jax"))


class Interrupts:
    """Stands for `run_cases`: the first cases end, then a signal comes while the next one is at work."""

    def __init__(self, number: signal.Signals, after: int) -> None:
        self.number, self.after = number, after

    def __call__(self, cases: list[Case], *, on_result: Any, **rest: object) -> None:
        self.kept = kept = Kept(on_result)
        lane = Lane([(case, resolve(case)) for case in cases], self.judged, kept, lambda sentence: None)
        lane.start()
        try:
            until_done([lane])
        finally:
            kept.end()
            lane.join()  # what is closed now cuts the case off

    def judged(self, judged_case: Case, target: object) -> Any:
        if judged_case == CASES[self.after]:
            os.kill(os.getpid(), self.number)
            while not self.kept.ended:
                time.sleep(0.01)
            return broken(judged_case, "crash")
        return passing(judged_case)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_signal_cuts_off_is_no_record(shardproof, monkeypatch, here: Path, number: signal.Signals) -> None:
    monkeypatch.setattr("conformance.cli.run.run_cases", Interrupts(number, after=2))
    done = shardproof("run", "tensor", "--profile", "smoke", "--framework", "jax", "--output", "out")
    assert done.exit_code == 130, done.output
    results = read(here / "out")
    assert [record.verdict for record in results.records] == ["pass"] * 2
    assert (results.run.finished, results.run.interrupted) == (None, True)
    assert f"2 of {len(CASES)} cases are recorded" in done.stderr
    assert (here / "out" / "report.html").is_file()


def test_resuming_runs_again_what_an_interruption_ended(here: Path) -> None:
    cut, killed, crashed = (case(mesh=f"tensor={size}") for size in (2, 3, 4))
    results = [
        passing(case()),
        replace(broken(cut, "crash"), reason="The workers have been closed."),
        replace(broken(killed, "crash"), reason="The JAX worker was ended by SIGKILL."),
        broken(crashed, "crash"),
    ]
    recorder = Recorder(here / "out", run_record(planned=4))
    for result in results:
        recorder.append(CaseRecord.of(result))
    recorder.close()
    assert cut.id not in {record.case for record in read(here / "out").records}, "it never ran"
    again = Recorder(here / "out", run_record(), resume=True)
    assert again.done == {case().id, crashed.id}
    again.close()


def test_two_cannot_write_to_one_folder(shardproof, fake_run, here: Path) -> None:
    shardproof("run", *ONE, "--output", "out")
    first = Recorder(here / "out", run_record(), resume=True)
    refused = shardproof("run", "--resume", "out")
    assert refused.exit_code == 2
    assert refused.stderr == (
        "Another shardproof is writing to 'out': wait until it has ended, or choose another folder.\n"
    )
    first.close()
    Recorder(here / "out", run_record(), resume=True).close()


def test_a_resumed_run_says_which_code_judged_what(shardproof, fake_run, monkeypatch, here: Path) -> None:
    write(here / "out", [passing(case())])
    monkeypatch.setattr("conformance.records.environment.content_hash", lambda: "1" * 64)
    done = shardproof("run", *ONE, "--resume", "out")
    results = read(here / "out")
    assert [record.part for record in results.records] == [0, 1]
    assert [part.hash[0] for part in results.run.parts] == ["0", "1"]
    mixed = "This is a mixed run: 1 case on 2025-11-21T09:30:00+00:00 by version 0.1.0, code 00000000; 1 case on"
    assert mixed in done.stdout
    assert "the code of shardproof or of a suite" in done.stdout
    assert mixed in (here / "out" / "report.html").read_text()


def test_an_older_folder_without_parts_is_resumed(here: Path) -> None:
    write(here / "out", [passing(case())])
    path = here / "out" / "run.json"
    path.write_text(read(here / "out").run.model_copy(update={"parts": ()}).model_dump_json())
    recorder = Recorder(here / "out", run_record(), resume=True)
    assert [part.started for part in recorder.run.parts] == ["2025-11-21T09:30:00+00:00"] * 2
    recorder.close()


def test_a_lone_surrogate_is_spelled_out(shardproof, fake_run, here: Path) -> None:
    fake_run.judge = lambda judged_case: replace(broken(judged_case, "error"), reason="cannot read weights-\udcff.bin")
    done = shardproof("run", *ONE, "--output", "out")
    assert done.exit_code == 1
    assert "cannot read weights-\\udcff.bin" in done.stdout
    assert read(here / "out").records[0].reason == "cannot read weights-\\udcff.bin"
    assert shardproof("report", "out").exit_code == 0


def test_a_full_disk_costs_the_case_and_nothing_before_it(shardproof, fake_run, here: Path) -> None:
    """A limit on the size of files stands for a full disk: writing fails in the middle of a record."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = here / "out" / "cases.jsonl"

    def judge(judged_case: Case) -> Any:
        if path.stat().st_size and resource.getrlimit(resource.RLIMIT_FSIZE) == limits:
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))
        return passing(judged_case)

    fake_run.judge = judge
    try:
        done = shardproof("run", "--profile", "smoke", "--output", "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert "File too large. 1 of" in done.stderr
    assert done.stderr.count("\n") == 1
    assert path.read_bytes().endswith(b"}\n"), "no half a record"
    assert read(here / "out").complaints == ()
    fake_run.judge = passing
    assert shardproof("run", "--resume", "out").exit_code == 0


def test_a_disk_that_is_full_at_the_report_keeps_the_records(shardproof, fake_run, monkeypatch, here: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    real = os.replace

    def replaced(draft: Path, path: Path) -> None:
        if Path(path).name == "report.html":
            raise full
        real(draft, path)

    monkeypatch.setattr("conformance.records.files.os.replace", replaced)
    done = shardproof("run", *ONE, "--output", "out")
    assert done.exit_code == 1
    assert "There is no report. Cannot write 'out/report.html': No space left on device." in done.stderr
    assert len(read(here / "out").records) == 1
    assert sorted(path.name for path in (here / "out").iterdir()) == ["cases.jsonl", "run.json"]


def test_a_folder_that_cannot_be_written(shardproof, fake_run, monkeypatch, here: Path) -> None:
    """Root may write anywhere: what the kernel says of a read-only file system stands for it."""
    write(here / "out", [passing(case())])

    def refused(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("conformance.records.recorder.os.open", refused)
    for words in (("--resume", "out"), (*ONE, "--output", "new")):
        done = shardproof("run", *words)
        assert done.exit_code == 2
        assert done.stderr == f"Cannot write to '{words[-1]}': Read-only file system.\n"
