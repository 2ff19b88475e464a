"""The kill table: what was planted, whether it was seen, by which checks, and with which diagnosis."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from conformance.cases.fault import NO_AXIS

KINDS = ("fault", "mutation", "control")
RIGHT, UNSAID, WRONG = "right", "unsaid", "wrong"


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
    axis, cause     what the diagnosis says, its surest cause
    confidence      how surely it says the cause, from 0 to 1; None where it says nothing, or the table is an old one
    axis_confidence the same of the axis; None also where it names none
    place           what it says is where the error shows, and not why
    equivalent      why this mutation provably changes nothing here; None otherwise
    cannot_run      why this mutation is no program (a shape error); None otherwise
    seconds         of the case alone; None in an older table
    diagnosis_seconds  of the further runs that looked for the cause; None where there were none
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
    confidence: float | None = None
    axis_confidence: float | None = None
    place: bool = False
    equivalent: str | None = None
    cannot_run: str | None = None
    reason: str = ""
    seconds: float | None = None
    diagnosis_seconds: float | None = None

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
    def judged_cause(self) -> str | None:
        """Is what was planted said: RIGHT, WRONG, or UNSAID where only a place or nothing is? None: it is not asked."""
        if not (self.counts and self.killed and self.causes):
            return None
        if any(words in (self.cause or "") for words in self.causes):
            return RIGHT
        return UNSAID if self.cause is None or self.place else WRONG

    @property
    def right_cause(self) -> bool | None:
        """Does the diagnosis say what was planted? None where nothing is asked, or nothing said."""
        return {RIGHT: True, WRONG: False}.get(self.judged_cause or UNSAID)

    @property
    def as_expected(self) -> bool:
        """A bug is seen, by the checks that should; a control passes."""
        return self.verdict == "pass" if self.kind == "control" else self.as_planned or not self.counts

    def record(self) -> dict[str, object]:
        derived = {"killed": self.killed, "right_axis": self.right_axis, "right_cause": self.right_cause}
        return asdict(self) | derived | {"judged_cause": self.judged_cause, "as_expected": self.as_expected}


@dataclass(frozen=True, kw_only=True)
class CausesSaid:
    """Of the killed bugs whose cause is asked: how many diagnoses say it, say no cause, or say another one."""

    right: int
    unsaid: int
    wrong: int

    @classmethod
    def of(cls, rows: Iterable[PowerRow]) -> CausesSaid:
        judged = Counter(row.judged_cause for row in rows)
        return cls(right=judged[RIGHT], unsaid=judged[UNSAID], wrong=judged[WRONG])

    @property
    def asked(self) -> int:
        return self.right + self.unsaid + self.wrong

    def __str__(self) -> str:
        return f"{self.right} right, {self.unsaid} unsaid, {self.wrong} wrong"


@dataclass(frozen=True, kw_only=True)
class PowerTotals:
    """How much the suite catches. A power or share of None: nothing to measure."""

    planted: int
    killed: int
    diagnosed: int
    right_axes: int
    explained: int
    right_causes: int
    fault_causes: CausesSaid
    mutation_causes: CausesSaid
    equivalent: int
    cannot_run: int
    controls: int
    false_alarms: int

    @classmethod
    def of(cls, rows: Iterable[PowerRow]) -> PowerTotals:
        rows = list(rows)
        counting = [row for row in rows if row.counts]
        diagnosed = [row for row in counting if row.right_axis is not None]
        faults, mutations = (CausesSaid.of(row for row in rows if row.kind == kind) for kind in ("fault", "mutation"))
        controls = [row for row in rows if row.kind == "control"]
        return cls(
            planted=len(counting),
            killed=sum(row.killed for row in counting),
            diagnosed=len(diagnosed),
            right_axes=sum(bool(row.right_axis) for row in diagnosed),
            explained=faults.asked + mutations.asked,
            right_causes=faults.right + mutations.right,
            fault_causes=faults,
            mutation_causes=mutations,
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
            f"right cause in {self.right_causes} of {self.explained} "
            f"(faults: {self.fault_causes}; mutations: {self.mutation_causes}); "
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
        rows = ({name: _tuples(row[name]) for name in names if name in row} for row in content["rows"])
        return cls.of((PowerRow(**row) for row in rows), content["absent"])

    def beside(self, other: PowerTable) -> PowerTable:
        """This table, with the rows of those implementations in each suite that only the other one has measured."""
        measured = {(row.suite, row.implementation) for row in self.rows}
        kept = [row for row in other.rows if (row.suite, row.implementation) not in measured]
        return PowerTable.of((*self.rows, *kept), {**other.not_applicable, **self.not_applicable}, self.left_out)

    def record(self) -> dict[str, object]:
        """All but the rows."""
        suites = {name: self.suite(name).totals.record() for name in self.suites}
        return {
            "totals": self.totals.record(),
            "suites": suites,
            "absent": self.not_applicable,
            "left_out": self.left_out,
        }

    def write(self, directory: Path) -> Path:
        """Write power.json, power.md, a page per suite, and how reliable the diagnosis is; power.md is returned."""
        from conformance.power import pages, reliability  # both are written from a table

        directory.mkdir(parents=True, exist_ok=True)
        (directory / "power.json").write_text(pages.as_json(self.record(), self.rows), encoding="utf-8")
        for name in self.suites:
            page = "\n".join(pages.page(f"What the suite `{name}` catches", self.suite(name)))
            (directory / f"{name}.md").write_text(page + "\n", encoding="utf-8")
        reliability.write(self.rows, directory)
        index = directory / "power.md"
        index.write_text("\n".join(pages.index(self)) + "\n", encoding="utf-8")
        return index


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _place(row: PowerRow) -> tuple[Any, ...]:
    number = int(row.id.rpartition("@")[2]) if row.kind == "mutation" else 0
    where = (row.contract, row.implementation, row.mesh, row.dtype)
    return (row.as_expected, KINDS.index(row.kind), *where, number, row.id)
