"""Matrix: contracts x (dtype, mesh) for each implementation, the worst error/bound of a cell as its shade."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from conformance.cases.case import DTYPES
from conformance.contract.mesh import Mesh
from conformance.records import formatting
from conformance.records.records import CaseRecord

SHADES = (0.25, 0.5, 0.75, 1.0, 10.0, 1000.0)  # upper limits of error/bound; the last shade is beyond them all
SYMBOLS = {"pass": "\u2713", "fail": "\u2717", "waived": "\u2713"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The cases (seeds, mostly one) at one place of the matrix; an empty cell has no records."""

    records: tuple[CaseRecord, ...] = ()

    @property
    def shown(self) -> CaseRecord:
        """The record that stands for the cell: the worst one."""
        return max(self.records, key=lambda record: (not record.as_expected, record.verdict != "pass", _ratio(record)))

    @property
    def text(self) -> str:
        """Verdict and worst error/bound; how many cases where there are several."""
        shown = self.shown
        times = f" \u00d7{len(self.records)}" if len(self.records) > 1 else ""
        if shown.verdict in SYMBOLS:
            return f"{SYMBOLS[shown.verdict]} {formatting.ratio(_worst(shown))}".strip() + times
        return {"unsupported": "refused"}.get(shown.outcome, shown.outcome) + times

    @property
    def style(self) -> str:
        """The CSS class of the cell."""
        shown = self.shown
        if shown.verdict in ("error", "hang", "crash"):
            return "broken"
        if shown.verdict == "unsupported":
            return "refused" if shown.as_expected else "broken"
        return f"shade-{shade(shown)}"


def shade(record: CaseRecord) -> int:
    """Which of the shades a record has; a failure is never shaded as a pass."""
    shaded = sum(_ratio(record) > limit for limit in SHADES)
    return shaded if record.verdict in ("pass", "waived") else max(shaded, 4)


def _worst(record: CaseRecord) -> float | None:
    return record.worst.ratio if record.worst else None


def _ratio(record: CaseRecord) -> float:
    return _worst(record) or 0.0


@dataclass(frozen=True, kw_only=True)
class Column:
    """One mesh in one dtype."""

    dtype: str
    mesh: Mesh
    first: bool  # of its dtype: a gap stands before it

    @property
    def lines(self) -> tuple[str, ...]:
        order = () if self.mesh.order == "canonical" else (self.mesh.order,)
        return (*(f"{axis} {size}" for axis, size in self.mesh.sizes), *order)


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """One implementation: its columns, and per contract a cell for each."""

    implementation: str
    framework: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    cases: int
    unexpected: int

    @property
    def dtypes(self) -> list[tuple[str, int]]:
        """Dtype and how many columns it spans."""
        return [(dtype, len(list(same))) for dtype, same in groupby(self.columns, key=lambda column: column.dtype)]


def matrices(records: Sequence[CaseRecord]) -> list[Matrix]:
    """One matrix per implementation (a planted fault or a mutation counts as one of its own)."""
    groups: dict[tuple[str, str], list[CaseRecord]] = {}
    for record in records:
        planted = [f"with {name}" for name in (record.fault, record.mutation) if name]
        groups.setdefault((" ".join([record.implementation, *planted]), record.framework), []).append(record)
    return [_matrix(name, framework, group) for (name, framework), group in sorted(groups.items())]


def _matrix(name: str, framework: str, records: Sequence[CaseRecord]) -> Matrix:
    columns = _columns(records)
    contracts = sorted({record.contract for record in records})
    cells: dict[tuple[str, str, Mesh], list[CaseRecord]] = {}
    for record in records:
        cells.setdefault((record.contract, record.dtype, record.layout), []).append(record)
    rows = tuple(
        (
            contract,
            tuple(Cell(records=tuple(cells.get((contract, column.dtype, column.mesh), ()))) for column in columns),
        )
        for contract in contracts
    )
    unexpected = sum(not record.as_expected for record in records)
    return Matrix(implementation=name, framework=framework, columns=columns, rows=rows, cases=len(records),
                  unexpected=unexpected)  # fmt: skip


def _columns(records: Iterable[CaseRecord]) -> tuple[Column, ...]:
    """Widest dtype first, then small meshes before large ones."""
    columns = {(record.dtype, record.layout) for record in records}
    ordered = sorted(
        columns, key=lambda column: (DTYPES.index(column[0]), column[1].devices, len(column[1].sizes), str(column[1]))
    )
    before = (None, *(dtype for dtype, _ in ordered))
    return tuple(
        Column(dtype=dtype, mesh=mesh, first=dtype != last)
        for (dtype, mesh), last in zip(ordered, before, strict=False)
    )
