"""Bisection: where no signature is sure, take one thing away at a time and see with which of them the fault goes.

First all axes: what fails on one device too is no fault of how the model is divided, and is diagnosed there. Then each
axis, by giving it size 1, and each feature of the recipe, by `Contract.without`. What alone makes the case pass is
where the fault lies; where each of several axes does, it lies in how they meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from conformance.cases.case import Case
from conformance.cases.resolve import Target
from conformance.diagnosis import UNKNOWN
from conformance.records.results import CaseResult, Cause, CheckResult

SURE = 0.8  # a diagnosis below this is tried
LIKELY = 0.5  # a diagnosis below this gives way to what bisection shows of several axes
SHOWN = 0.85  # how sure bisection is
ALONE = "wrong on one device too"
Judged = Callable[[Case, Target], CaseResult]


def bisected(result: CaseResult, target: Target, judged: Judged) -> CaseResult:
    """A failed result, with the axis and the feature that bisection has shown."""
    if result.case.mutation is not None:
        return result  # in another program the collectives have other numbers
    best = _best(result)
    unsure = best is None or best.confidence < SURE
    if not unsure and best is not None and best.axis is not None:
        return result
    alone = _alone(result.case, target, judged)
    if alone is not None:
        return _everywhere(result, alone, _features(alone.case, target, judged) if unsure else [])
    axes = _axes(result.case, target, judged)
    features = _features(result.case, target, judged) if unsure else []
    if unsure and len(axes) > 1 and not features:
        return replace(result, checks=tuple(_meeting(check, axes) for check in result.checks))
    axis, feature = _only(axes), _only(features)
    if axis is None and feature is None:
        return result
    return replace(result, checks=tuple(_naming(check, axis, feature) for check in result.checks))


def _alone(case: Case, target: Target, judged: Judged) -> CaseResult | None:
    """The case on one device, if it fails there too."""
    if case.mesh.devices == 1:
        return None
    result = judged(_narrow(case, case.mesh.axes), target)
    return result if result.verdict == "fail" else None


def _everywhere(result: CaseResult, alone: CaseResult, features: Sequence[str]) -> CaseResult:
    """The result with the diagnosis of one device, where no axis can be named."""
    seen, best, feature = _best(result), _best(alone), _only(features)
    if seen is not None and seen.confidence >= SURE and seen.axis is None:
        best = seen  # the program as it is shows more than its first step on one device
    known = best is not None and best.cause != UNKNOWN and best.confidence >= LIKELY
    words = f"{best.cause}, on one device too" if best is not None and known else ALONE
    if feature is not None:
        words = f"goes away without {feature}; {ALONE}"
    shown = (Cause(cause=words, axis=None, confidence=SHOWN),)
    checks = (replace(one, diagnosis=shown) if one.verdict == "fail" else one for one in result.checks)
    return replace(result, checks=tuple(checks))


def _best(result: CaseResult) -> Cause | None:
    causes = [cause for check in result.checks for cause in check.diagnosis]
    return max(causes, key=lambda cause: cause.confidence, default=None)


def _axes(case: Case, target: Target, judged: Judged) -> list[str]:
    """The axes without any of which the case passes; none where there is but one."""
    wide = [axis for axis, size in case.mesh.sizes if size > 1]
    return [axis for axis in wide if judged(_narrow(case, (axis,)), target).verdict == "pass"] if len(wide) > 1 else []


def _narrow(case: Case, axes: Sequence[str]) -> Case:
    sizes = tuple((axis, 1 if axis in axes else size) for axis, size in case.mesh.sizes)
    return replace(case, mesh=replace(case.mesh, sizes=sizes))


def _features(case: Case, target: Target, judged: Judged) -> list[str]:
    """The features without any of which the case passes."""
    return [one for one in target.contract.features if judged(*_plain(case, target, one)).verdict == "pass"]


def _plain(case: Case, target: Target, feature: str) -> tuple[Case, Target]:
    contract = target.contract.without(feature)
    return replace(case, contract=contract.name), replace(target, contract=contract)


def _only(found: Sequence[str]) -> str | None:
    return found[0] if len(found) == 1 else None


def _naming(check: CheckResult, axis: str | None, feature: str | None) -> CheckResult:
    """The diagnosis of a failed check, with what was shown in front."""
    if check.verdict != "fail":
        return check
    known = [cause for cause in check.diagnosis if cause.cause != UNKNOWN]
    named = [cause for cause in known if axis is None or cause.axis in (axis, None)]
    words = named[0].cause if named else "goes away when the axis has size 1"
    where = axis or (named[0].axis if named else None)
    if feature is not None:
        words = f"goes away without {feature}"
    shown = Cause(cause=words, axis=where, confidence=SHOWN)
    return replace(check, diagnosis=(shown, *(cause for cause in known if cause.cause != shown.cause)))


def _meeting(check: CheckResult, axes: Sequence[str]) -> CheckResult:
    """The diagnosis of a failed check that nothing else explains, with the axes in front that it takes together."""
    known = [cause for cause in check.diagnosis if cause.cause != UNKNOWN]
    if check.verdict != "fail" or any(cause.confidence >= LIKELY for cause in known):
        return check
    words = f"takes {' and '.join(axes)} together: it goes away when any of them has size 1"
    return replace(check, diagnosis=(Cause(cause=words, axis=None, confidence=SHOWN), *known))
