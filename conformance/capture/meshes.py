"""What several runs show together: a fault that goes with one axis fails wherever it is wide, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from conformance.diagnosis import UNKNOWN
from conformance.diagnosis.conclusion import Shown, concluded
from conformance.records.results import CaseResult, Cause, CheckResult

COPIES = 0.6  # how surely a fault that no signature knows lies where copies differ


def over_meshes(results: Sequence[CaseResult]) -> list[CaseResult]:
    """The same results; where just one axis separates those that fail from those that pass, they say so.

    What could not be judged says nothing of an axis.
    """
    known = [result for result in results if result.verdict != "error"]
    verdicts = {result.verdict for result in known}
    axes = {axis: None for result in known for axis in result.case.mesh.axes}
    separating = [axis for axis in axes if all(_wide(result, axis) == (result.verdict == "fail") for result in known)]
    if verdicts != {"pass", "fail"} or len(separating) != 1:
        return list(results)
    shown = Shown(needed=(separating[0],))
    return [concluded(result, shown) if result.verdict == "fail" else result for result in results]


def _wide(result: CaseResult, axis: str) -> bool:
    return result.case.mesh.size(axis) > 1


def with_place(result: CaseResult) -> CaseResult:
    """Where no cause names an axis, the one along which copies differ that should be equal."""
    causes = [cause for check in result.checks for cause in check.diagnosis]
    place = None if any(cause.axis for cause in causes) else _differing(result)
    if place is None:
        return result
    checks = (
        replace(check, diagnosis=(*check.diagnosis, place)) if check.verdict == "fail" else check
        for check in result.checks
    )
    return replace(result, checks=tuple(checks))


def _differing(result: CaseResult) -> Cause | None:
    differing = next((check for check in result.checks if _copies(check)), None)
    if differing is None:
        return None
    first, second = (result.case.mesh.coordinates(rank) for rank in differing.ranks)
    axes = [axis for axis in first if first[axis] != second[axis]]
    basis = f"{differing.first}: the copies of ranks {differing.ranks[0]} and {differing.ranks[1]} differ"
    return Cause(cause=UNKNOWN, axis=axes[0], confidence=COPIES, basis=basis, place=True) if len(axes) == 1 else None


def _copies(check: CheckResult) -> bool:
    return check.check == "replicas" and check.verdict == "fail" and len(check.ranks) == 2
