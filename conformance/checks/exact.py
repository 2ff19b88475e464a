"""`exact`: inputs for which no order of summation rounds, so that the tolerance is zero."""

from __future__ import annotations

from conformance.checks.check import Check, within_bounds
from conformance.evidence.comparison import CaseRun, TensorComparison
from conformance.records.results import CheckResult

LINEAR = (
    "outputs/",
    "gradients/",
    "loss",
    "updates/",
)  # need few bits: float32 holds them, and others where the contract says so
PRODUCTS = ("input_gradients/",)  # of errors and weights, in the dtype in which the model computes
QUADRATIC = ("metrics/",)  # the norm squares a gradient: float64 only


class Exact(Check):
    name = "exact"
    rule = (
        "The inputs are small dyadic numbers, so that every partial sum of outputs, loss, gradients (of inputs too) "
        "and first updates is a number of the dtype: every rank must hold the very bits of the oracle (in float64 the "
        "gradient norm too)."
    )

    def applies(self, case_run: CaseRun) -> bool:
        return case_run.contract.exact and case_run.case.dtype in case_run.contract.exact_dtypes

    def judge(self, case_run: CaseRun) -> CheckResult:
        kinds = LINEAR + (QUADRATIC if case_run.case.dtype == "float64" else ())
        kinds += () if _computes_narrowly(case_run) else PRODUCTS
        return within_bounds(
            self, case_run, [comparison for comparison in case_run.comparisons if _is_exact(comparison, kinds)], 0.0
        )


def _is_exact(comparison: TensorComparison, kinds: tuple[str, ...]) -> bool:
    return comparison.step == 0 and comparison.tensor.startswith(kinds)


def _computes_narrowly(case_run: CaseRun) -> bool:
    """Whether the contract has the model compute in fewer bits than the case has."""
    return case_run.contract.recipe.precision.dtype("compute", case_run.case.dtype) != case_run.case.dtype
