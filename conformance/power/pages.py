"""Pages: the kill table as people read it, and as power.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from conformance.power.table import KINDS, RIGHT, UNSAID, WRONG, PowerRow, PowerTable, PowerTotals

WHERE = ("id", "contract", "implementation", "mesh", "verdict", "seen by")
COLUMNS = (*WHERE, "axis", "right axis", "cause", "right cause", "remark")
DIAGNOSED = ("right axis", "right cause", "wrong cause")
COUNTS = ("planted", "killed", *DIAGNOSED, "equivalent", "cannot run", "controls", "false alarms")
SPOKEN = {True: "yes", False: "no", None: "", RIGHT: "yes", WRONG: "no", UNSAID: "unsaid"}


def as_json(content: Mapping[str, object], rows: Iterable[PowerRow]) -> str:
    """One line per row, so that a change of one is a change of one line."""
    given = [f'"{name}": {json.dumps(value)}' for name, value in content.items()]
    lines = ",\n".join(json.dumps(row.record()) for row in rows)
    return "{\n" + ",\n".join([*given, f'"rows": [\n{lines}\n]']) + "\n}\n"


def index(table: PowerTable) -> Iterator[str]:
    yield "# What the suites catch"
    yield ""
    yield "Planted faults and generated mutations are bugs; controls are none. Made by `shardproof power`."
    yield ""
    yield from markdown(
        ("suite", "kind", *COUNTS),
        (_totals_cells(name, kind, table.suite(name)) for name in table.suites for kind in KINDS),
    )
    yield ""
    yield f"In all: {table.totals}."
    if table.left_out:
        yield from ("", "## Left out", "")
        yield from markdown(("contract", "why nothing was planted there"), table.left_out.items())


def _totals_cells(suite: str, kind: str, table: PowerTable) -> Sequence[object]:
    totals = PowerTotals.of(row for row in table.rows if row.kind == kind)
    axis, cause = f"{totals.right_axes} of {totals.diagnosed}", f"{totals.right_causes} of {totals.explained}"
    wrong = totals.fault_causes.wrong + totals.mutation_causes.wrong
    rest = (wrong, totals.equivalent, totals.cannot_run, totals.controls, totals.false_alarms)
    return (f"[{suite}]({suite}.md)", kind, totals.planted, totals.killed, axis, cause, *rest)


def page(title: str, table: PowerTable) -> Iterator[str]:
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
        yield from markdown(COLUMNS, map(_cells, rows)) if rows else ("none",)
        yield ""
    reasons = [entry for entries in table.not_applicable.values() for entry in entries.items()]
    yield from ("## Not planted here", "")
    yield from markdown(("mechanism", "why it cannot exist in this suite"), reasons) if reasons else ("none",)


def _cells(row: PowerRow) -> Sequence[object]:
    axis, cause = (row.axis or "", SPOKEN[row.right_axis]), (row.cause or "", SPOKEN[row.judged_cause])
    remark = row.equivalent or row.cannot_run or (row.reason if row.verdict != "fail" else "") or row.what
    seen = ", ".join(row.seen_by)
    where = (row.contract, row.implementation, row.mesh, row.verdict)
    return (row.id, *where, seen, *axis, *cause, remark)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "|" + " --- |" * len(columns)
    for row in rows:
        yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
