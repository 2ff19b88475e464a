"""Recorder: a results directory, written so that nothing recorded is lost, and read with every good record kept."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ValidationError

from conformance.records import SCHEMA_VERSION, CaseRecord, RunRecord
from conformance.usage import UsageError

CASES, RUN = "cases.jsonl", "run.json"
RESULTS = Path("shardproof-results")  # where results go unless told otherwise


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a results directory holds: the run, the last good record of each case, a sentence per bad line."""

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
            records[record.case] = record
    kept = f"the {len(records)} good records are kept"
    return tuple(records.values()), tuple(
        f"{path}, line {n} cannot be read and is left out ({why}); {kept}." for n, why in bad
    )


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

    A new run needs a directory without records. A resumed run goes on in its own, and `done` are the cases that it has.
    """

    def __init__(self, directory: Path, run: RunRecord, *, resume: bool = False) -> None:
        self.directory = directory
        self.records: list[CaseRecord] = []
        self.complaints: tuple[str, ...] = ()
        if resume:
            earlier = read(directory)
            self.records, self.complaints = list(earlier.records), earlier.complaints
            run = run.model_copy(update={"started": earlier.run.started, "seconds": earlier.run.seconds})
        else:
            _claim(directory)
        self.run = run
        self._write_run()
        self._stream = _opened(directory / CASES)

    @property
    def done(self) -> frozenset[str]:
        return frozenset(record.case for record in self.records)

    def append(self, record: CaseRecord) -> None:
        """Write one record and wait until it is on disk."""
        _write_line(self._stream, record)
        self.records.append(record)

    def close(self, **final: object) -> None:
        """Write the totals; `final` are fields of the run record."""
        self._stream.close()
        totals = Counter(record.verdict for record in self.records)
        unexpected = sum(not record.as_expected for record in self.records)
        self.run = self.run.model_copy(update={"totals": dict(totals), "unexpected": unexpected, **final})
        self._write_run()

    def _write_run(self) -> None:
        path = self.directory / RUN
        draft = path.with_suffix(".draft")
        draft.write_text(self.run.model_dump_json(indent=2) + "\n")
        os.replace(draft, path)


def _claim(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"'{directory}' is a file: --output needs a directory.")
    held = sorted(path.name for path in _contents(directory))
    if RUN in held or CASES in held:
        raise UsageError(
            f"'{directory}' already holds results: go on with --resume {directory}, or choose another --output."
        )
    if held:
        raise UsageError(f"'{directory}' holds other files ({held[0]}): --output needs a new or an empty directory.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as wrong:
        raise UsageError(f"Cannot write to '{directory}': {wrong.strerror}.") from None


def _contents(directory: Path) -> Iterator[Path]:
    return directory.iterdir() if directory.exists() else iter(())


def _opened(path: Path) -> BinaryIO:
    """The stream to append to; a last line that a kill cut short is ended, so that it spoils no other."""
    stream = path.open("ab")
    if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        stream.write(b"\n")
    return stream


def _write_line(stream: BinaryIO, record: BaseModel) -> None:
    stream.write(record.model_dump_json().encode() + b"\n")
    stream.flush()
    os.fsync(stream.fileno())
