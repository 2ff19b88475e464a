"""Judge one case: apply the checks, name the first divergence and its likely causes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from conformance.cases.case import Verdict
from conformance.checks import CHECKS, Check
from conformance.checks.census import OF_REFERENCE
from conformance.diagnosis import diagnose, ranked
from conformance.evidence.comparison import CaseRun, TensorComparison
from conformance.evidence.gather import disagreements
from conformance.records.results import CheckResult


def judge(case_run: CaseRun, checks: Sequence[Check] = CHECKS) -> tuple[CheckResult, ...]:
    """Apply every check that has something to say about the case run; failed ones carry a diagnosis.

    What a check says of its own failure stands only where no tensor of the case diverges: then it speaks for the
    others too. Else the first divergence explains them all.
    """
    results = [check.judge(case_run) for check in checks if check.applies(case_run)]
    failing = [result for result in results if result.verdict == "fail"]
    if all(result.diagnosis for result in failing) or lies_in_reference(failing):
        return tuple(results)
    own = [cause for result in failing for cause in result.diagnosis]
    beyond = _beyond(case_run)
    if own and not beyond:
        causes = ranked(own)
        return tuple(
            replace(result, diagnosis=result.diagnosis or causes) if result in failing else result for result in results
        )
    causes = diagnose(case_run, beyond or _farthest(case_run), first=beyond[0].tensor if beyond else None)
    return tuple(replace(result, diagnosis=causes) if result in failing else result for result in results)


def lies_in_reference(results: Sequence[CheckResult]) -> bool:
    """Whether something fails, and all that does lies in the reference: nothing of the candidate explains it."""
    failing = [result for result in results if result.verdict == "fail"]
    return bool(failing) and all((result.first or "").startswith(OF_REFERENCE) for result in failing)


def verdict_of(results: Sequence[CheckResult]) -> Verdict:
    """`pass` if a check passed and none failed; a case that no check could judge has not passed."""
    if any(result.verdict == "fail" for result in results):
        return "fail"
    return "pass" if any(result.verdict == "pass" for result in results) else "fail"


def _farthest(case_run: CaseRun) -> list[TensorComparison]:
    """What to look at where no tensor diverges: the one that is farthest off, as far as rounding goes."""
    return sorted(case_run.comparisons, key=lambda comparison: -comparison.excess.ratio)[:1]


def _beyond(case_run: CaseRun) -> list[TensorComparison]:
    """Tensors beyond their bound or with copies that differ, in order."""
    misplaced = [comparison for comparison in case_run.placed if comparison.excess.error]
    bound = 0.0 if case_run.contract.exact and case_run.case.dtype == "float64" else case_run.bound
    beyond = [
        comparison
        for comparison in case_run.comparisons
        if not comparison.excess.ratio <= bound or any(disagreements(comparison.observed))
    ]
    return misplaced + beyond
