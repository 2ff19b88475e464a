"""Where to look next: the tensor, rows and ranks to print, and the command of the nearest case that is right."""

from __future__ import annotations

from dataclasses import replace

from conformance.cases.case import Case
from conformance.records.formatting import ranks as spoken
from conformance.records.reproduce import reproduce
from conformance.records.results import CaseResult, Cause, CheckResult


def with_look(result: CaseResult) -> CaseResult:
    """The result with that sentence in every failed check that names a tensor."""
    checks = (
        replace(check, look=_look(check, result.case)) if check.verdict == "fail" else check for check in result.checks
    )
    return replace(result, checks=tuple(checks))


def _look(check: CheckResult, case: Case) -> str:
    moment, separator, tensor = (check.first or "").partition(": ")
    if not separator:
        return ""
    where = f" on {spoken(check.ranks)}" if check.ranks else ""
    when = "before the first step" if moment == "start" else f"in {moment}"
    return f"Print {tensor}{where} {when}{_beside(case, check.diagnosis)}."


def _beside(case: Case, causes: tuple[Cause, ...]) -> str:
    """The same program where it is right: without the axis that was shown."""
    if case.fault or case.mutation:
        return ""
    shown = next((cause.axis for cause in causes if cause.axis is not None and cause.axis_sure >= 0.9), None)
    if shown is None:
        return ""
    sizes = tuple((axis, 1 if axis == shown else size) for axis, size in case.mesh.sizes)
    command = reproduce(replace(case, mesh=replace(case.mesh, sizes=sizes)))
    return f", and beside it the same with {shown}=1, where it is right: {command}"
