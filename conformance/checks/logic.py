"""`logic`: in float64 the candidate computes what the reference computes, up to the rounding of one device."""

from __future__ import annotations

from dataclasses import replace

from conformance.checks.check import Check, within_bounds
from conformance.checks.lower_precision import not_held, sentence
from conformance.evidence.comparison import CaseRun
from conformance.records.results import CheckResult


class Logic(Check):
    name = "logic"
    rule = (
        "Every observation of the first step (activations, outputs, loss, each gradient, metrics), on every rank "
        "and per row block, in float64 against the float64 reference. The bound is a small multiple of the "
        "reference's own response to inputs that differ by one unit in the last place. A reference that computes part "
        "in a narrower dtype is good to that dtype's rounding only, and no candidate is held to less."
    )

    def applies(self, case_run: CaseRun) -> bool:
        return case_run.case.dtype == "float64"

    def judge(self, case_run: CaseRun) -> CheckResult:
        first = [
            comparison
            for comparison in case_run.comparisons
            if comparison.step == 0 and not is_state(comparison.tensor)
        ]
        result = within_bounds(self, case_run, first, case_run.bound)
        said = [result.detail, sentence(case_run), _yardstick(case_run) if result.verdict == "fail" else ""]
        return replace(result, detail=" ".join(filter(None, said)), not_held=not_held(case_run))


def _yardstick(case_run: CaseRun) -> str:
    """What the yardstick leaves out; empty where it knows the rounding of every operation."""
    why = case_run.reference.unevaluated
    return (
        "The yardstick is the response to moved inputs alone: the reference cannot be evaluated in stochastic "
        f"arithmetic ({why})."
        if why
        else ""
    )


def is_state(tensor: str) -> bool:
    """What `collect` gives, as opposed to what a step observes."""
    return tensor.startswith(("updates/", "optimizer/", "ema/"))
