"""`numerics`: in a narrow dtype the candidate is not less accurate than one device in that dtype."""

from __future__ import annotations

from dataclasses import replace

from conformance.checks.check import Check, within_bounds
from conformance.checks.logic import is_state
from conformance.checks.precision import sentences, too_narrow
from conformance.evidence.comparison import CaseRun
from conformance.records.results import CheckResult


class Numerics(Check):
    name = "numerics"
    rule = (
        "Every observation of the first step in float32, bfloat16 or float16: excess error = (candidate - oracle) /"
        " (single-device reference in that dtype - oracle), per row block and on every rank, with the response to "
        "inputs perturbed by rounding as floor. Passes below a bound calibrated on conforming runs. And in the traced "
        "program no sum of gradients over devices or slices and no statistic is narrower than the contract's policy."
    )

    def applies(self, case_run: CaseRun) -> bool:
        return case_run.case.dtype != "float64"

    def judge(self, case_run: CaseRun) -> CheckResult:
        first = [
            comparison
            for comparison in case_run.comparisons
            if comparison.step == 0 and not is_state(comparison.tensor)
        ]
        result = within_bounds(self, case_run, first, case_run.bound)
        narrow = too_narrow(case_run)
        if not narrow:
            return replace(result, not_held=_unread(case_run))
        said = " ".join([next(sentences(case_run)), *_more(len(narrow) - 1), result.detail]).strip()
        tensor = next((operation.tensor for operation in narrow if operation.tensor), None)
        failed = result.failed + len(narrow)
        return replace(result, verdict="fail", detail=said, first=result.first or tensor, failed=failed)


def _unread(case_run: CaseRun) -> str:
    """Why the policy could not be held to the program; empty where it was, or where there is none."""
    why = case_run.evidence.why_unseen("arithmetic") if case_run.contract.held else ""
    return f"The dtypes of its sums and statistics are not held to the policy: {why}." if why else ""


def _more(others: int) -> list[str]:
    return [f"So are {others} more."] if others else []
