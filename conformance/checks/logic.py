"""`logic`: in float64 the candidate computes what the reference computes, up to the rounding of one device."""

from __future__ import annotations

from conformance.checks.check import Check, within_bounds
from conformance.exhibit import Exhibit
from conformance.results import CheckResult


class Logic(Check):
    name = "logic"
    rule = (
        "Every observation of the first step (activations, outputs, loss, each gradient, metrics), on every rank "
        "and per row block, in float64 against the float64 reference. The bound is a small multiple of the "
        "reference's own response to inputs that differ by one unit in the last place."
    )

    def applies(self, exhibit: Exhibit) -> bool:
        return exhibit.case.dtype == "float64"

    def judge(self, exhibit: Exhibit) -> CheckResult:
        first = [one for one in exhibit.comparisons if one.step == 0 and not is_state(one.tensor)]
        return within_bounds(self, exhibit, first, exhibit.bound)


def is_state(tensor: str) -> bool:
    """What `collect` gives, as opposed to what a step observes."""
    return tensor.startswith(("updates/", "optimizer/"))
