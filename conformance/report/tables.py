"""Tables: the records as CSV, one row per case, and as Markdown for a pull request."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from conformance.records.files import write_whole
from conformance.records.recorder import Results
from conformance.records.records import CaseRecord
from conformance.report.terminal import cell, implementations, totals, what_failed

COLUMNS = (
    "case", "suite", "contract", "implementation", "framework", "mesh", "dtype", "seed", "devices", "fault", "mutation",
    "expected", "verdict", "not_held", "failed_checks", "worst_tensor", "error", "bound", "ratio", "first", "cause",
    "axis", "confidence", "seconds", "reason", "reproduce",
)  # fmt: skip
MOST_FAILURES = 50  # in Markdown: a pull request is no place for more


def _row(record: CaseRecord) -> dict[str, object]:
    plain = {name: getattr(record, name) for name in COLUMNS if name in CaseRecord.model_fields}
    row = plain | {
        "mesh": str(record.layout),
        "not_held": " ".join(record.not_held),
        "failed_checks": " ".join(check.check for check in record.failing),
    }
    if record.worst is not None:
        row |= {"worst_tensor": record.worst.tensor, "error": record.worst.error, "bound": record.worst.bound,
                "ratio": record.worst.ratio}  # fmt: skip
    for check in reversed(record.failing):
        row["first"] = check.first or row.get("first")
        for cause in check.diagnosis[:1]:
            row |= {"cause": cause.cause, "axis": cause.axis, "confidence": cause.confidence}
    return row


def write_csv(results: Results) -> Path:
    """Write `cases.csv` beside the records."""
    path = results.directory / "cases.csv"
    stream = StringIO(newline="")
    writer = csv.DictWriter(stream, COLUMNS)
    writer.writeheader()
    writer.writerows(_row(record) for record in results.records)
    write_whole(path, stream.getvalue())
    return path


def markdown(results: Results) -> Iterator[str]:
    """The summary: totals, verdicts per contract and implementation, failures."""
    records = results.records
    names = implementations(records)
    yield "# shardproof\n"
    yield from totals(records, results.run)
    yield ""
    yield f"| contract | {' | '.join(_escaped(name) for name in names)} |"
    yield f"|{' --- |' * (len(names) + 1)}"
    for contract in sorted({record.contract for record in records}):
        cells = [
            cell([record for record in records if record.contract == contract and record.implementation == name])
            for name in names
        ]
        yield f"| {contract} | {' | '.join(cells)} |"
    unexpected = [record for record in records if not record.as_expected]
    for record in unexpected[:MOST_FAILURES]:
        yield f"\n## {record.verdict}: `{record.case}`\n"
        yield "```text"
        yield from what_failed(record)
        yield "```"
    if len(unexpected) > MOST_FAILURES:
        yield f"\n... and {len(unexpected) - MOST_FAILURES} more."


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("_", r"\_")


def write_markdown(results: Results) -> Path:
    """Write `report.md` beside the records."""
    path = results.directory / "report.md"
    write_whole(path, "\n".join(markdown(results)) + "\n")
    return path
