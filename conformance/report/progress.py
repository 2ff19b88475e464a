"""Progress: what is shown while cases run. A terminal gets a bar, a pipe plain lines, --json one JSON line per case."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from conformance.records import formatting
from conformance.records.records import CaseRecord


class Progress(ABC):
    """Shows each record as it comes; `total` cases are to run."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.seen = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(  # noqa: B027 - most ways of showing have nothing to put back
        self, kind: type | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the terminal back."""

    def working(self, sentence: str) -> None:  # noqa: B027 - nor to say here
        """A case starts, or a worker does."""

    def show(self, record: CaseRecord) -> None:
        self.seen += 1
        self.line(record)

    @abstractmethod
    def line(self, record: CaseRecord) -> None:
        """Show one record."""


class Lines(Progress):
    """One plain line per case: counter, verdict, worst error/bound, seconds, case."""

    def line(self, record: CaseRecord) -> None:
        width = len(str(self.total))
        print(f"{self.seen:>{width}}/{self.total} {spoken(record)}", flush=True)


class Json(Progress):
    """One JSON object per line, the same as in cases.jsonl."""

    def line(self, record: CaseRecord) -> None:
        print(record.model_dump_json(), flush=True)


class Bar(Progress):
    """A bar with the case at work; cases that are not as expected stay on screen above it."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Rich

        super().__init__(total)
        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._rich = Rich(*columns, console=Console(), transient=True)
        self._task = self._rich.add_task("starting workers", total=total)

    def __enter__(self) -> Self:
        self._rich.start()
        return self

    def __exit__(self, kind: type | None, failure: BaseException | None, trace: TracebackType | None) -> None:
        self._rich.stop()

    def working(self, sentence: str) -> None:
        from rich.markup import escape

        self._rich.update(self._task, description=escape(sentence))

    def line(self, record: CaseRecord) -> None:
        self._rich.advance(self._task)
        if not record.as_expected:
            self._rich.console.print(spoken(record), style="red", markup=False, highlight=False)


def spoken(record: CaseRecord) -> str:
    """A record in one line."""
    worst = formatting.ratio(record.worst.ratio) if record.worst else ""
    surprising = not record.as_expected and (record.verdict in ("pass", "unsupported") or record.expected != "pass")
    marked = f"  (expected: {record.expected})" if surprising else ""
    short = f"  ({record.spoken.removeprefix('pass, ')})" if record.spoken != record.verdict else ""
    return f"{record.verdict:<11} {worst:>5} {formatting.seconds(record.seconds):>8}  {record.case}{marked}{short}"


def progress_for(total: int, *, as_json: bool) -> Progress:
    """The way of showing that fits where the output goes."""
    if as_json:
        return Json(total)
    return Bar(total) if sys.stdout.isatty() else Lines(total)
