"""Summary: the end of a run in the terminal: a table of verdicts, every failure, and where the report lies."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from conformance.records import formatting
from conformance.records.check_record import CheckRecord
from conformance.records.records import NOT_HERE, CaseRecord
from conformance.records.results import VERDICTS
from conformance.records.run_record import RunRecord, mixture
from conformance.report.terminal_table import show_blocks

MOST_FAILURES = 20  # in the terminal; the report has all of them
MOST_REASONS = 3  # of a run in which every case was refused
STYLES = {"pass": "green", "fail": "red", "error": "red", "hang": "red", "crash": "red"}


def show(records: Sequence[CaseRecord], run: RunRecord, report: str) -> None:
    """Print the whole summary."""
    show_blocks(records)
    for line in _failures(records):
        print(line)
    print()
    for line in totals(records, run):
        print(line)
    if report:
        print(f"Report: {report}")


def implementations(records: Iterable[CaseRecord]) -> tuple[str, ...]:
    return tuple(sorted({record.implementation for record in records}))


def cell(records: Sequence[CaseRecord]) -> str:
    """Verdicts and the worst error/bound of some cases: `12 pass 0.41`, `1 fail 3e5, 11 pass`."""
    if not records:
        return ""
    counts = Counter(record.outcome for record in records)
    order = [verdict for verdict in (*VERDICTS[1:5], *VERDICTS[:1], *VERDICTS[5:], NOT_HERE) if counts[verdict]]
    worst = max((record.worst.ratio for record in records if record.worst), default=None)
    spoken = [f"{counts[verdict]} {verdict}" for verdict in order]
    return f"{', '.join(spoken)} {formatting.ratio(worst)}".strip()


def show_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A rich table on a terminal, aligned plain columns in a pipe."""
    if not sys.stdout.isatty():
        return _show_plain(head, rows)
    from rich.console import Console
    from rich.table import Table

    table = Table(*head, header_style="bold", row_styles=("", "dim"))
    for row in rows:
        table.add_row(*(_styled(text) for text in row))
    Console().print(table)
    return None


def _styled(text: str):  # type: ignore[no-untyped-def]
    from rich.text import Text

    word = next((word for word in text.replace(",", " ").split() if word in STYLES), "")
    return Text(text, style=STYLES.get(word, ""))


def _show_plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _failures(records: Sequence[CaseRecord]) -> Iterator[str]:
    unexpected = [record for record in records if not record.as_expected]
    for record in unexpected[:MOST_FAILURES]:
        yield ""
        yield f"{record.verdict.upper()} {record.case}"
        yield from (f"  {line}" for line in what_failed(record))
    if len(unexpected) > MOST_FAILURES:
        yield f"\n... and {len(unexpected) - MOST_FAILURES} more: see the report."


def what_failed(record: CaseRecord) -> Iterator[str]:
    """A failure in a few lines: the reason, the first tensor, the diagnosis, the command that reproduces it."""
    if record.verdict in ("pass", "unsupported"):
        yield f"The verdict is {record.verdict}, expected was {record.expected}."
    if record.reason:
        yield record.reason
    if record.alone:
        yield record.alone
    for check in record.failing:
        yield _of_check(check)
    diagnosis = next((check.diagnosis for check in record.failing if check.diagnosis), ())
    for cause in diagnosis:
        yield formatting.cause(cause.cause, cause.axis, cause.confidence, cause.axis_confidence)
        if cause.basis:
            yield f"    because {cause.basis}"
    if look := next((check.look for check in record.failing if check.look), ""):
        yield f"look: {look}"
    if record.reproduce:
        yield f"reproduce: {record.reproduce}"


def _of_check(check: CheckRecord) -> str:
    first = f"first at {check.first}: " if check.first and check.first not in check.detail else ""
    ranks = f" (rank{'s' if len(check.ranks) > 1 else ''} {formatting.spans(check.ranks)})" if check.ranks else ""
    return f"{check.check}: {first}{check.detail}{ranks}"


def not_held(records: Sequence[CaseRecord]) -> Iterator[str]:
    """`12 of those that pass have communication not held.`: what the passes of a run are no passes of."""
    counts = Counter(
        name
        for record in records
        if record.verdict == "pass"
        for name in {said.partition(":")[0] for said in record.not_held}
    )
    for name, number in sorted(counts.items()):
        yield f"{number:,} of those that pass {'has' if number == 1 else 'have'} {name}."


def totals(records: Sequence[CaseRecord], run: RunRecord) -> Iterator[str]:
    """The totals, how far the run came, what was not here and which code judged, in a sentence each."""
    counts = Counter(record.outcome for record in records)
    spoken = ", ".join(f"{counts[verdict]} {verdict}" for verdict in (*VERDICTS, NOT_HERE) if counts[verdict])
    yield f"{_how_many(records, run)} in {formatting.seconds(run.seconds)}: {spoken or 'none'} - {_judgement(records)}."
    yield from notes(records, run)
    yield from not_held(records)
    if run.overhead is not None:
        phases = "place, compile, step and collect, of candidates and references"
        yield f"Overhead: {formatting.share(run.overhead)} of the time went outside {phases}."


def notes(records: Sequence[CaseRecord], run: RunRecord) -> Iterator[str]:
    """What one must know of a run besides its figures: what could not run here, and whether one code judged all."""
    reasons = {record.missing: record.reason for record in records if record.missing is not None}
    yield from (f"Not here: {reason or name}" for name, reason in reasons.items())
    if not any(record.shows_something for record in records):
        refused = dict.fromkeys(record.reason for record in records if record.missing is None and record.reason)
        yield from (f"Refused: {reason}" for reason in list(refused)[:MOST_REASONS])
    if mixed := mixture(run.parts, records):
        yield mixed


def _how_many(records: Sequence[CaseRecord], run: RunRecord) -> str:
    if run.finished or len(records) >= run.planned:
        return formatting.count(len(records), "case")
    return f"Not finished: {len(records):,} of {formatting.count(run.planned, 'case')}"


def _judgement(records: Sequence[CaseRecord]) -> str:
    unexpected = sum(not record.as_expected for record in records)
    if unexpected:
        return f"{unexpected} not as expected"
    if not any(record.shows_something for record in records):
        return "nothing was judged"
    return "all as expected"
