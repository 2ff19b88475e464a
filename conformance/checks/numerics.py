"""`numerics`: in a narrow dtype the candidate is not less accurate than one device in that dtype."""

from __future__ import annotations

from conformance.checks.check import Check, within_bounds
from conformance.checks.logic import is_state
from conformance.exhibit import Exhibit
from conformance.results import CheckResult


class Numerics(Check):
    name = "numerics"
    rule = (
        "Every observation of the first step in float32, bfloat16 or float16: excess error = (candidate - oracle) /"
        " (single-device reference in that dtype - oracle), per row block and on every rank, with the response to "
        "inputs perturbed by rounding as floor. Passes below a bound calibrated on conforming runs."
    )

    def applies(self, exhibit: Exhibit) -> bool:
        return exhibit.case.dtype != "float64"

    def judge(self, exhibit: Exhibit) -> CheckResult:
        first = [one for one in exhibit.comparisons if one.step == 0 and not is_state(one.tensor)]
        return within_bounds(self, exhibit, first, exhibit.bound)
