"""The journal: what has been judged of a table that is not whole yet.

An interrupted measurement goes on where it stopped, as long as engine and suites are the same code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from conformance.records.environment import content_hash
from conformance.records.records import CaseRecord
from conformance.records.results import CaseResult


class Journal:
    """A file with the hash of the code in its first line, and one CaseRecord per line after it."""

    def __init__(self, path: Path) -> None:
        self._path, self._head = path, json.dumps({"code": content_hash()})

    def results(self) -> Mapping[str, CaseResult]:
        """Id of a case -> its result, of all that was judged by this code; the last line may have been cut off."""
        lines = self._path.read_text().splitlines() if self._path.is_file() else []
        if lines[:1] != [self._head]:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(self._head + "\n")
            return {}
        records = [record for line in lines[1:] if (record := _record(line)) is not None]
        return {record.case: record.result() for record in records}

    def add(self, result: CaseResult) -> None:
        """Write a result down; a line that was cut off before it stays a line of its own."""
        with self._path.open("a+b") as stream:
            stream.seek(max(0, stream.tell() - 1))
            cut_off = stream.read(1) != b"\n"
            stream.write((b"\n" if cut_off else b"") + CaseRecord.of(result).model_dump_json().encode() + b"\n")

    def end(self) -> None:
        """The table is whole and written: nothing is left to go on with."""
        self._path.unlink(missing_ok=True)


def _record(line: str) -> CaseRecord | None:
    try:
        return CaseRecord.model_validate_json(line)
    except ValidationError:
        return None
