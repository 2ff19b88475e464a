"""Compare two runs: cases whose verdict or worst error/bound changed, new and vanished ones, and the time they took."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from conformance.records import formatting
from conformance.records.recorder import Results, read
from conformance.records.records import CaseRecord
from conformance.report.terminal import show_table

NOTABLE = 1.5  # a worst error/bound that changed by less than this factor is not shown


@dataclass(frozen=True, kw_only=True)
class Change:
    """One case in two runs; None where a run does not have it. `factor` is after / before of the worst error/bound."""

    case: str
    kind: str  # worse, better, changed, ratio, new or vanished
    before: str | None
    after: str | None
    ratio_before: float | None = None
    ratio_after: float | None = None
    factor: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """What changed between two runs, and after / before of the time that the common cases took (median)."""

    changes: tuple[Change, ...]
    common: int
    seconds_factor: float | None

    @property
    def worse(self) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.kind == "worse")


def compare(before: Results, after: Results) -> RunComparison:
    """Case by case; a verdict is worse when it was as expected and no longer is.

    Where the runs are of different kinds of devices, a case on one is the same case on the other.
    """
    alike = before.run.devices == after.run.devices
    old = {record.case if alike else _anywhere(record): record for record in before.records}
    new = {record.case if alike else _anywhere(record): record for record in after.records}
    common = [name for name in old if name in new]
    factors = [new[name].seconds / old[name].seconds for name in common if old[name].seconds > 0]
    changes = [change for name in common for change in _changes(old[name], new[name])]
    changes += [
        Change(case=name, kind="vanished", before=old[name].verdict, after=None) for name in old if name not in new
    ]
    changes += [Change(case=name, kind="new", before=None, after=new[name].verdict) for name in new if name not in old]
    order = ("worse", "better", "changed", "ratio", "vanished", "new")
    ordered = sorted(changes, key=lambda change: (order.index(change.kind), -_size(change.factor)))
    return RunComparison(
        changes=tuple(ordered), common=len(common), seconds_factor=median(factors) if factors else None
    )


def _anywhere(record: CaseRecord) -> str:
    """The id of a case without the kind of its devices."""
    return record.case.replace(f"-{record.devices}]", "]")


def _changes(old: CaseRecord, new: CaseRecord) -> Iterator[Change]:
    ratios = (old.worst.ratio if old.worst else None, new.worst.ratio if new.worst else None)
    factor = _factor(*ratios)
    if old.verdict != new.verdict:
        kind = "changed" if old.as_expected == new.as_expected else "better" if new.as_expected else "worse"
    elif factor is not None and _size(factor) >= math.log(NOTABLE):
        kind = "ratio"
    else:
        return
    yield Change(case=new.case, kind=kind, before=old.verdict, after=new.verdict, ratio_before=ratios[0],
                 ratio_after=ratios[1], factor=factor)  # fmt: skip


def _factor(before: float | None, after: float | None) -> float | None:
    if before is None or after is None or before == after or math.isnan(before) or math.isnan(after):
        return None
    return after / before if before else math.inf


def _size(factor: float | None) -> float:
    """How far a factor is from 1, either way."""
    return 0.0 if factor is None else abs(math.log(factor)) if factor else math.inf


def show(before: Path, after: Path, *, as_json: bool) -> int:
    """Print the comparison; the exit status is 1 if a verdict got worse or there was nothing to compare."""
    old, new = read(before), read(after)
    for complaint in (*old.complaints, *new.complaints):
        print(complaint, file=sys.stderr)
    comparison = compare(old, new)
    if as_json:
        print(json.dumps(_finite(asdict(comparison))))
    else:
        _show(comparison)
    if not comparison.common:
        print(f"{before} and {after} have no case in common: nothing was compared.", file=sys.stderr)
    return 1 if comparison.worse or not comparison.common else 0


def _show(comparison: RunComparison) -> None:
    if comparison.changes:
        show_table(("change", "verdict", "error/bound", "case"), [_row(change) for change in comparison.changes])
    took = (
        f"; they took {comparison.seconds_factor:.2f} times as long (median)"
        if comparison.seconds_factor is not None
        else ""
    )
    nothing = "" if comparison.changes else ", nothing changed"
    print(f"{formatting.count(comparison.common, 'case')} in both runs{nothing}{took}.")
    if comparison.worse:
        print(f"{formatting.count(len(comparison.worse), 'verdict')} got worse.")


def _row(change: Change) -> tuple[str, str, str, str]:
    verdict = change.before or change.after or ""
    if change.before and change.after and change.before != change.after:
        verdict = f"{change.before} -> {change.after}"
    ratio = ""
    if change.factor is not None:
        ratio = (
            f"{formatting.ratio(change.ratio_before)} -> {formatting.ratio(change.ratio_after)} (x {change.factor:.3g})"
        )
    return change.kind, verdict, ratio, change.case


def _finite(value: object) -> object:
    """JSON knows no infinity: written as in the records."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
