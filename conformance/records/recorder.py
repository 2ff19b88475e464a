"""Recorder: a results directory, written so that nothing recorded is lost, and read with every good record kept."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from conformance.cases.usage import UsageError
from conformance.records.base import SCHEMA_VERSION
from conformance.records.files import WriteFailed, cannot_write, write_whole
from conformance.records.records import CaseRecord
from conformance.records.run_record import PartRecord, RunRecord

CASES, RUN = "cases.jsonl", "run.json"
NEVER_RAN = ("crash", "The workers have been closed.")  # as earlier versions recorded what an interruption cut off
RESULTS = Path("shardproof-results")  # where results go unless told otherwise


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a results directory holds: the run, the last good record of each case in the order of the cases' ids, a
    sentence per bad line.
    """

    directory: Path
    run: RunRecord
    records: tuple[CaseRecord, ...]
    complaints: tuple[str, ...] = ()


def read(directory: Path) -> Results:
    """Read a results directory; UsageError in one sentence if it is not one of ours."""
    if not directory.is_dir():
        raise UsageError(f"There is no results directory '{directory}'.")
    if not (directory / RUN).is_file():
        raise UsageError(f"'{directory}' is no results directory of shardproof: it has no {RUN}.")
    run = _run_of(directory / RUN)
    records, complaints = _cases_of(directory / CASES)
    return Results(directory=directory, run=run, records=records, complaints=complaints)


def _run_of(path: Path) -> RunRecord:
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as wrong:
        raise UsageError(f"'{path}' is no run record of shardproof: {_first_problem(wrong)}.") from None


def _cases_of(path: Path) -> tuple[tuple[CaseRecord, ...], tuple[str, ...]]:
    records: dict[str, CaseRecord] = {}
    bad: list[tuple[int, str]] = []
    lines = path.read_bytes().splitlines() if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = CaseRecord.model_validate_json(line)
        except ValidationError as wrong:
            bad.append((number, _first_problem(wrong)))
        else:
            records.pop(record.case, None)
            if (record.verdict, record.reason) != NEVER_RAN:
                records[record.case] = record
    kept = f"the {len(records)} good records are kept"
    return tuple(_sorted(records)), tuple(
        f"{path}, line {n} cannot be read and is left out ({why}); {kept}." for n, why in bad
    )


def _sorted(records: Mapping[str, CaseRecord]) -> list[CaseRecord]:
    """In the order of their cases' ids, whichever ended first: cases run side by side."""
    return [records[case] for case in sorted(records)]


def _first_problem(wrong: Exception) -> str:
    if not isinstance(wrong, ValidationError):
        return str(wrong)
    first = wrong.errors(include_url=False)[0]
    if first["loc"] == ("schema_version",):
        return f"it has schema version {first['input']!r}, this shardproof reads {SCHEMA_VERSION}"
    where = ".".join(str(part) for part in first["loc"])
    return " ".join(f"{where}: {first['msg']}".removeprefix(": ").split())


class Recorder:
    """Appends records to a directory; each is on disk before the next case starts.

    A new run needs a directory without records. A resumed run goes on in its own, as another part of it, and `done` are
    the cases that it has. One process at a time writes to a directory. Raises WriteFailed where the disk refuses.
    """

    def __init__(self, directory: Path, run: RunRecord, *, resume: bool = False) -> None:
        self.directory = directory
        self._records: dict[str, CaseRecord] = {}
        self.complaints: tuple[str, ...] = ()
        parts: tuple[PartRecord, ...] = ()
        if resume:
            read(directory)  # refuses what is no results directory before anything is opened there
        else:
            _claim(directory)
        self._stream = _opened(directory / CASES, new=not resume)
        try:
            if resume:
                earlier = read(directory)
                self._records = {record.case: record for record in _that_ended(earlier)}
                self.complaints = earlier.complaints
                parts = earlier.run.parts or (earlier.run.part(),)
                run = run.model_copy(update={"started": earlier.run.started, "seconds": earlier.run.seconds})
            self.run = run.model_copy(update={"parts": (*parts, *(run.parts or (run.part(),)))})
            self._part = len(parts)
            self._write_run()
        except BaseException:
            os.close(self._stream)
            raise

    @property
    def records(self) -> list[CaseRecord]:
        return _sorted(self._records)

    @property
    def done(self) -> frozenset[str]:
        """The cases that need not run again; what was not here may be here by now."""
        return frozenset(name for name, record in self._records.items() if record.missing is None)

    def plan(self, left: int) -> None:
        """So many cases are still to run."""
        self.run = self.run.model_copy(update={"planned": len(self.done) + left})

    def append(self, record: CaseRecord) -> CaseRecord:
        """Write one record and wait until it is on disk; the record as it is there."""
        record = record.model_copy(update={"part": self._part})
        _write_line(self._stream, self.directory / CASES, record)
        self._records[record.case] = record
        return record

    def close(self, **final: object) -> None:
        """Write the totals and let go of the directory; `final` are fields of the run record."""
        totals = Counter(record.verdict for record in self.records)
        unexpected = sum(not record.as_expected for record in self.records)
        self.run = self.run.model_copy(update={"totals": dict(totals), "unexpected": unexpected, **final})
        earlier = sum(part.seconds for part in self.run.parts[:-1])
        last = {"finished": self.run.finished, "seconds": self.run.seconds - earlier}
        parts = (*self.run.parts[:-1], self.run.parts[-1].model_copy(update=last))
        self.run = self.run.model_copy(update={"parts": parts})
        try:
            self._write_run()
        finally:
            os.close(self._stream)  # and with it the lock

    def _write_run(self) -> None:
        write_whole(self.directory / RUN, self.run.model_dump_json(indent=2) + "\n")


def _that_ended(earlier: Results) -> list[CaseRecord]:
    """Without the cases that ended because their run was ended, as far as that can be told: they are run again."""
    killed = "was ended by SIGKILL."
    unfinished = earlier.run.finished is None
    return [
        record
        for record in earlier.records
        if not (record.verdict == "crash" and unfinished and record.reason.endswith(killed))
    ]


def _claim(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"'{directory}' is a file: --output needs a directory.")
    try:
        held = sorted(path.name for path in _contents(directory))
        if not held:
            directory.mkdir(parents=True, exist_ok=True)
    except OSError as wrong:
        raise UsageError(f"Cannot write to '{directory}': {wrong.strerror}.") from None
    if RUN in held or CASES in held:
        raise UsageError(_held(directory))
    if held:
        raise UsageError(f"'{directory}' holds other files ({held[0]}): --output needs a new or an empty directory.")


def _held(directory: Path) -> str:
    return f"'{directory}' already holds results: go on with --resume {directory}, or choose another --output."


def _contents(directory: Path) -> Iterator[Path]:
    return directory.iterdir() if directory.exists() else iter(())


def _opened(path: Path, *, new: bool) -> int:
    """The locked file to append to; a last line that a kill cut short is ended, so that it spoils no other."""
    try:
        stream = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | (os.O_EXCL if new else 0), 0o666)
    except FileExistsError:
        raise UsageError(_held(path.parent)) from None
    except OSError as wrong:
        raise UsageError(f"Cannot write to '{path.parent}': {wrong.strerror}.") from None
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel frees it, however the process ends
        size = os.fstat(stream).st_size
        if size and os.pread(stream, 1, size - 1) != b"\n":
            _write(stream, path, b"\n")
    except BlockingIOError:
        os.close(stream)
        raise UsageError(
            f"Another shardproof is writing to '{path.parent}': wait until it has ended, or choose another folder."
        ) from None
    except BaseException:
        os.close(stream)
        raise
    return stream


def _write_line(stream: int, path: Path, record: BaseModel) -> None:
    _write(stream, path, record.model_dump_json().encode() + b"\n")


def _write(stream: int, path: Path, content: bytes) -> None:
    """All of it, on disk, or WriteFailed and nothing of it."""
    before = os.fstat(stream).st_size
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(stream, left) :]
        os.fsync(stream)
    except OSError as wrong:
        with suppress(OSError):
            os.ftruncate(stream, before)
        raise WriteFailed(cannot_write(path, wrong)) from wrong
