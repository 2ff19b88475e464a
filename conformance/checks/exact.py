"""`exact`: inputs for which no order of summation rounds, so that the tolerance is zero."""

from __future__ import annotations

from conformance.checks.check import Check, within_bounds
from conformance.evidence.comparison import Comparison, Exhibit
from conformance.records.results import CheckResult

LINEAR = ("outputs/", "gradients/", "loss", "updates/")  # need few bits: float32 holds them
PRODUCTS = ("input_gradients/",)  # of errors and weights, in the dtype in which the model computes
QUADRATIC = ("metrics/",)  # the norm squares a gradient: float64 only


class Exact(Check):
    name = "exact"
    rule = (
        "The inputs are small dyadic numbers, so that every partial sum of outputs, loss, gradients (of inputs too) "
        "and first updates is a number of the dtype: every rank must hold the very bits of the oracle (in float64 the "
        "gradient norm too)."
    )

    def applies(self, exhibit: Exhibit) -> bool:
        return exhibit.contract.exact and exhibit.case.dtype in ("float64", "float32")

    def judge(self, exhibit: Exhibit) -> CheckResult:
        kinds = LINEAR + (QUADRATIC if exhibit.case.dtype == "float64" else ())
        kinds += () if _computes_narrowly(exhibit) else PRODUCTS
        return within_bounds(self, exhibit, [one for one in exhibit.comparisons if _is_exact(one, kinds)], 0.0)


def _is_exact(one: Comparison, kinds: tuple[str, ...]) -> bool:
    return one.step == 0 and one.tensor.startswith(kinds)


def _computes_narrowly(exhibit: Exhibit) -> bool:
    """Whether the contract has the model compute in fewer bits than the case has."""
    return exhibit.contract.recipe.precision.dtype("compute", exhibit.case.dtype) != exhibit.case.dtype
