"""HTML: one self-contained file, readable on a phone, with a section for every case that is not as expected."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from conformance.contract.mesh import Mesh
from conformance.records import formatting
from conformance.records.check_record import MemoryRecord
from conformance.records.files import write_whole
from conformance.records.recorder import Results
from conformance.records.records import NOT_HERE, CaseRecord
from conformance.records.results import DIAGNOSIS, VERDICTS
from conformance.report.distribution import histograms
from conformance.report.matrix import SHADES, SYMBOLS, matrices
from conformance.report.terminal import not_held, notes
from conformance.report.timelines import drawings

PHASES = ("place", "compile", "step", "collect", "trace", "reference", DIAGNOSIS)
MOST_OPEN = 4  # failures that are shown unfolded
MOST_SLOW = 12
MOST_LARGE = 12
MOST_RANKS = 64  # of a mesh that is drawn
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[^\t\n -~\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, kw_only=True)
class MeshDrawing:
    """The ranks of a mesh as rows and columns: the last axis runs across, all others down."""

    mesh: Mesh
    ranks: frozenset[int]
    across: str
    down: str
    columns: int

    @property
    def rows(self) -> list[list[int]]:
        return [list(range(i, i + self.columns)) for i in range(0, self.mesh.devices, self.columns)]


def html(results: Results) -> str:
    """The whole report."""
    records = results.records
    return _template().render(
        run=results.run,
        complaints=[*results.complaints, *notes(records, results.run)],
        records=records,
        counts=[(outcome, number) for outcome in (*VERDICTS, NOT_HERE) if (number := _outcomes(records)[outcome])],
        unexpected=[record for record in records if not record.as_expected],
        refused=[record for record in records if record.as_expected and record.outcome == "unsupported"],
        not_held=list(not_held(records)),
        matrices=matrices(records),
        shades=_legend(),
        histograms=histograms(records),
        timelines=drawings(records),
        largest=_largest(records),
        slowest=sorted(records, key=lambda record: -record.seconds)[:MOST_SLOW],
        phases=_phases(records),
        suites=list(dict.fromkeys(record.suite for record in records)),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("conformance", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        ratio=formatting.ratio, seconds=formatting.seconds, share=formatting.share, number=formatting.number,
        clean=clean, anchor=anchor, drawing=drawing, gib=lambda size: f"{size / 2**30:.0f} GiB", parts=parts,
        breakable=breakable, size=formatting.binary_bytes, held=held,
        cases=lambda number: formatting.count(number, "case"),
    )  # fmt: skip
    environment.globals.update(most_open=MOST_OPEN, symbols=SYMBOLS)
    return environment.get_template("report.html")


def clean(text: str) -> str:
    """Without the escape sequences and control characters that a process may have printed."""
    return _ESCAPES.sub("", text)


def breakable(name: str) -> str:
    """A tensor's name that may be broken after its slashes and dots."""
    return re.sub(r"([/.])", "\\1\u200b", name)


def anchor(record: CaseRecord) -> str:
    """The id of a case's section in the page."""
    return "case-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", record.case)


def drawing(record: CaseRecord) -> MeshDrawing | None:
    """The mesh of a failure with the ranks that its first finding names."""
    mesh = record.layout
    ranks = next((check.ranks for check in record.failing if check.ranks), ())
    if not ranks or mesh.devices > MOST_RANKS:
        return None
    *outer, (across, columns) = mesh.sizes
    down = ", ".join(f"{axis} {size}" for axis, size in outer)
    return MeshDrawing(mesh=mesh, ranks=frozenset(ranks), across=f"{across} {columns}", down=down, columns=columns)


def held(record: CaseRecord) -> tuple[MemoryRecord, ...]:
    """Bytes per device of a case, kind by kind; empty where its memory was not judged."""
    return next((check.memory for check in record.checks if check.memory), ())


def _largest(records: Sequence[CaseRecord]) -> list[CaseRecord]:
    """The cases whose devices hold most."""
    judged = [record for record in records if held(record)]
    return sorted(judged, key=lambda record: -max(figure.most for figure in held(record)))[:MOST_LARGE]


def _outcomes(records: Sequence[CaseRecord]) -> Counter[str]:
    return Counter(record.outcome for record in records)


def _legend() -> list[tuple[int, str]]:
    names = [f"to {limit:g}" for limit in SHADES] + [f"over {SHADES[-1]:g}"]
    return list(enumerate(names))


def parts(record: CaseRecord) -> list[tuple[str, float]]:
    """Phase -> share of the case's seconds, the rest as `other`."""
    return _shares({name: record.phases.get(name, 0.0) for name in PHASES}, record.seconds)


def _phases(records: Sequence[CaseRecord]) -> list[tuple[str, float]]:
    """Phase -> share of all seconds."""
    spent = {name: math.fsum(record.phases.get(name, 0.0) for record in records) for name in PHASES}
    return _shares(spent, math.fsum(record.seconds for record in records))


def _shares(spent: dict[str, Any], total: float) -> list[tuple[str, float]]:
    whole = max(total, sum(spent.values()))
    if not whole or not math.isfinite(whole):
        return []
    return [
        (name, seconds / whole)
        for name, seconds in {**spent, "other": whole - sum(spent.values())}.items()
        if seconds > 0
    ]


def write_html(results: Results) -> Path:
    """Write `report.html` beside the records."""
    path = results.directory / "report.html"
    write_whole(path, html(results))
    return path
