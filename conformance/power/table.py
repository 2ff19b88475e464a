"""The kill table: what was planted, whether it was seen, by which checks, and with which diagnosis."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from conformance.cases.fault import NO_AXIS

KINDS = ("fault", "mutation", "control")
WHERE = ("id", "contract", "implementation", "mesh", "verdict", "seen by")
COLUMNS = (*WHERE, "axis", "right axis", "cause", "right cause", "remark")
COUNTS = ("planted", "killed", "right axis", "right cause", "equivalent", "cannot run", "controls", "false alarms")


@dataclass(frozen=True, kw_only=True)
class PowerRow:
    """One planted fault, one generated mutation or one negative control, on one case.

    kind            fault, mutation, or control (which must not be flagged)
    id              name of the fault; `operator@site` of a mutation; `unchanged` for an implementation as it is
    what            the bug in one sentence; for a mutation the collective that it changes
    seen_by         the checks that failed
    planned         checks of which one must fail, or verdicts that count too (`hang`); empty: any check will do
    axes            the mesh axes of which the diagnosis should name one
    causes          words of which the diagnosis should have one; empty: nothing is asked
    axis, cause     what the diagnosis says, surest cause first
    equivalent      why this mutation provably changes nothing here; None otherwise
    cannot_run      why this mutation is no program (a shape error); None otherwise
    """

    kind: str
    id: str
    what: str
    contract: str
    implementation: str
    mesh: str
    dtype: str
    verdict: str
    seen_by: tuple[str, ...] = ()
    planned: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    axis: str | None = None
    cause: str | None = None
    equivalent: str | None = None
    cannot_run: str | None = None
    reason: str = ""

    @property
    def suite(self) -> str:
        return self.contract.partition("/")[0]

    @property
    def counts(self) -> bool:
        """Is it a bug that could have been seen?"""
        return self.kind != "control" and self.equivalent is None and self.cannot_run is None

    @property
    def killed(self) -> bool:
        """Some check failed. A run that breaks proves nothing, unless the fault is one that breaks runs."""
        return self.verdict == "fail" or self.verdict in self.planned

    @property
    def as_planned(self) -> bool:
        """Killed, and by a check that was meant to see it."""
        return self.killed and (not self.planned or bool({*self.seen_by, self.verdict} & {*self.planned}))

    @property
    def right_axis(self) -> bool | None:
        """Does the diagnosis name an axis of the bug, or none where it has none? None where that is not asked."""
        return (self.axis or NO_AXIS) in self.axes if self.counts and self.killed and self.axes else None

    @property
    def right_cause(self) -> bool | None:
        """Does the diagnosis say what was planted? None where nothing is asked."""
        asked = self.counts and self.killed and self.causes
        return any(words in (self.cause or "") for words in self.causes) if asked else None

    @property
    def as_expected(self) -> bool:
        """A bug is seen, by the checks that should; a control passes."""
        return self.verdict == "pass" if self.kind == "control" else self.as_planned or not self.counts

    def record(self) -> dict[str, object]:
        found = {"killed": self.killed, "right_axis": self.right_axis, "right_cause": self.right_cause}
        return asdict(self) | found | {"as_expected": self.as_expected}


@dataclass(frozen=True, kw_only=True)
class PowerTotals:
    """How much the suite catches. A power or share of None: nothing to measure."""

    planted: int
    killed: int
    diagnosed: int
    right_axes: int
    explained: int
    right_causes: int
    equivalent: int
    cannot_run: int
    controls: int
    false_alarms: int

    @classmethod
    def of(cls, rows: Iterable[PowerRow]) -> PowerTotals:
        rows = list(rows)
        counting = [row for row in rows if row.counts]
        diagnosed = [row for row in counting if row.right_axis is not None]
        explained = [row for row in counting if row.right_cause is not None]
        controls = [row for row in rows if row.kind == "control"]
        return cls(
            planted=len(counting),
            killed=sum(row.killed for row in counting),
            diagnosed=len(diagnosed),
            right_axes=sum(bool(row.right_axis) for row in diagnosed),
            explained=len(explained),
            right_causes=sum(bool(row.right_cause) for row in explained),
            equivalent=sum(row.equivalent is not None for row in rows),
            cannot_run=sum(row.cannot_run is not None for row in rows),
            controls=len(controls),
            false_alarms=sum(not row.as_expected for row in controls),
        )

    @property
    def power(self) -> float | None:
        return self.killed / self.planted if self.planted else None

    @property
    def right_axis_share(self) -> float | None:
        return self.right_axes / self.diagnosed if self.diagnosed else None

    @property
    def right_cause_share(self) -> float | None:
        return self.right_causes / self.explained if self.explained else None

    def record(self) -> dict[str, object]:
        shares = {"right_axis_share": self.right_axis_share, "right_cause_share": self.right_cause_share}
        return asdict(self) | {"power": self.power} | shares

    def __str__(self) -> str:
        return (
            f"{self.killed} of {self.planted} killed; right axis in {self.right_axes} of {self.diagnosed} diagnoses, "
            f"right cause in {self.right_causes} of {self.explained}; "
            f"{self.false_alarms} false alarms on {self.controls} controls; {self.equivalent} equivalent, "
            f"{self.cannot_run} cannot run"
        )


@dataclass(frozen=True, kw_only=True)
class PowerTable:
    """All rows, what is not as expected first, in an order that depends on nothing but names.

    not_applicable  suite -> mechanism -> why it cannot exist there
    left_out        contract and mesh -> why nothing was planted there in somebody's own class
    """

    rows: tuple[PowerRow, ...]
    not_applicable: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        rows: Iterable[PowerRow],
        not_applicable: Mapping[str, Mapping[str, str]] | None = None,
        left_out: Mapping[str, str] | None = None,
    ) -> PowerTable:
        return cls(rows=tuple(sorted(rows, key=_place)), not_applicable=not_applicable or {}, left_out=left_out or {})

    @property
    def totals(self) -> PowerTotals:
        return PowerTotals.of(self.rows)

    def suite(self, name: str) -> PowerTable:
        return PowerTable(
            rows=tuple(row for row in self.rows if row.suite == name),
            not_applicable={name: self.not_applicable.get(name, {})},
        )

    @property
    def suites(self) -> tuple[str, ...]:
        return tuple(sorted({row.suite for row in self.rows}))

    @classmethod
    def read(cls, directory: Path) -> PowerTable:
        """The table that `write` left in a folder; an empty one where there is none."""
        file = directory / "power.json"
        content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"rows": [], "absent": {}}
        names = PowerRow.__dataclass_fields__
        rows = ({name: _tuples(row[name]) for name in names} for row in content["rows"])
        return cls.of((PowerRow(**row) for row in rows), content["absent"])

    def beside(self, other: PowerTable) -> PowerTable:
        """This table, with the rows of those implementations in each suite that only the other one has measured."""
        measured = {(row.suite, row.implementation) for row in self.rows}
        kept = [row for row in other.rows if (row.suite, row.implementation) not in measured]
        return PowerTable.of((*self.rows, *kept), {**other.not_applicable, **self.not_applicable}, self.left_out)

    def write(self, directory: Path) -> Path:
        """Write power.json and power.md, and beside them one table per suite; the page to read is returned."""
        directory.mkdir(parents=True, exist_ok=True)
        content = {
            "totals": self.totals.record(),
            "suites": {name: self.suite(name).totals.record() for name in self.suites},
            "absent": self.not_applicable,
            "left_out": self.left_out,
        }
        (directory / "power.json").write_text(_json(content, self.rows), encoding="utf-8")
        for name in self.suites:
            page = "\n".join(_page(f"What the suite `{name}` catches", self.suite(name)))
            (directory / f"{name}.md").write_text(page + "\n", encoding="utf-8")
        index = directory / "power.md"
        index.write_text("\n".join(_index(self)) + "\n", encoding="utf-8")
        return index


def _json(content: Mapping[str, object], rows: Iterable[PowerRow]) -> str:
    """One line per row, so that a change of one is a change of one line."""
    given = [f'"{name}": {json.dumps(value)}' for name, value in content.items()]
    lines = ",\n".join(json.dumps(row.record()) for row in rows)
    return "{\n" + ",\n".join([*given, f'"rows": [\n{lines}\n]']) + "\n}\n"


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _place(row: PowerRow) -> tuple[Any, ...]:
    number = int(row.id.rpartition("@")[2]) if row.kind == "mutation" else 0
    where = (row.contract, row.implementation, row.mesh, row.dtype)
    return (row.as_expected, KINDS.index(row.kind), *where, number, row.id)


def _index(table: PowerTable) -> Iterator[str]:
    yield "# What the suites catch"
    yield ""
    yield "Planted faults and generated mutations are bugs; controls are none. Made by `shardproof power`."
    yield ""
    yield from _markdown(
        ("suite", "kind", *COUNTS),
        (_totals_cells(name, kind, table.suite(name)) for name in table.suites for kind in KINDS),
    )
    yield ""
    yield f"In all: {table.totals}."
    if table.left_out:
        yield from ("", "## Left out", "")
        yield from _markdown(("contract", "why nothing was planted there"), table.left_out.items())


def _totals_cells(suite: str, kind: str, table: PowerTable) -> Sequence[object]:
    totals = PowerTotals.of(row for row in table.rows if row.kind == kind)
    axis, cause = f"{totals.right_axes} of {totals.diagnosed}", f"{totals.right_causes} of {totals.explained}"
    rest = (totals.equivalent, totals.cannot_run, totals.controls, totals.false_alarms)
    return (f"[{suite}]({suite}.md)", kind, totals.planted, totals.killed, axis, cause, *rest)


def _page(title: str, table: PowerTable) -> Iterator[str]:
    yield from (f"# {title}", "", f"{table.totals}.", "")
    sections = {
        "Not as expected": [row for row in table.rows if not row.as_expected],
        "Planted faults": [row for row in table.rows if row.as_expected and row.kind == "fault"],
        "Controls": [row for row in table.rows if row.as_expected and row.kind == "control"],
        "Equivalent mutations": [row for row in table.rows if row.equivalent],
        "Mutations that cannot run": [row for row in table.rows if row.cannot_run],
        "Mutations": [row for row in table.rows if row.as_expected and row.kind == "mutation" and row.counts],
    }
    for heading, rows in sections.items():
        yield from (f"## {heading}", "")
        yield from _markdown(COLUMNS, map(_cells, rows)) if rows else ("none",)
        yield ""
    not_applicable = [one for reasons in table.not_applicable.values() for one in reasons.items()]
    yield from ("## Not planted here", "")
    yield from (
        _markdown(("mechanism", "why it cannot exist in this suite"), not_applicable) if not_applicable else ("none",)
    )


def _cells(row: PowerRow) -> Sequence[object]:
    spoken = {True: "yes", False: "no", None: ""}
    axis, cause = (row.axis or "", spoken[row.right_axis]), (row.cause or "", spoken[row.right_cause])
    remark = row.equivalent or row.cannot_run or (row.reason if row.verdict != "fail" else "") or row.what
    seen = ", ".join(row.seen_by)
    where = (row.contract, row.implementation, row.mesh, row.verdict)
    return (row.id, *where, seen, *axis, *cause, remark)


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "|" + " --- |" * len(columns)
    for row in rows:
        yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
