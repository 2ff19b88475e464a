"""Judge one case: apply the checks, name the first divergence and its likely causes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from conformance.checks import CHECKS, Check
from conformance.diagnosis import diagnose
from conformance.evidence.comparison import Comparison, Exhibit
from conformance.evidence.gather import disagreements
from conformance.records.results import CheckResult


def judge(exhibit: Exhibit, checks: Sequence[Check] = CHECKS) -> tuple[CheckResult, ...]:
    """Apply every check that has something to say about the exhibit; failed ones carry a diagnosis.

    What a check says of its own failure stands only where no other check fails: then no tensor of the case diverges.
    """
    results = [check.judge(exhibit) for check in checks if check.applies(exhibit)]
    if all(result.verdict != "fail" or result.diagnosis for result in results):
        return tuple(results)
    causes = diagnose(exhibit, _diverging(exhibit))
    return tuple(replace(result, diagnosis=causes) if result.verdict == "fail" else result for result in results)


def verdict_of(results: Sequence[CheckResult]) -> str:
    """`pass` if a check passed and none failed; a case that no check could judge has not passed."""
    if any(result.verdict == "fail" for result in results):
        return "fail"
    return "pass" if any(result.verdict == "pass" for result in results) else "fail"


def _diverging(exhibit: Exhibit) -> list[Comparison]:
    """What to look at, in order: tensors beyond their bound or with copies that differ; else the farthest off."""
    misplaced = [one for one in exhibit.placed if one.excess.error]
    bound = 0.0 if exhibit.contract.exact and exhibit.case.dtype == "float64" else exhibit.bound
    beyond = [one for one in exhibit.comparisons if not one.excess.ratio <= bound or any(disagreements(one.observed))]
    return misplaced + beyond or sorted(exhibit.comparisons, key=lambda one: -one.excess.ratio)[:1]
