"""`trajectory`: several steps with clipping active; a stale parameter or a lost update shows here first."""

from __future__ import annotations

from conformance.checks.check import LATER_STEPS, Check, within_bounds
from conformance.checks.logic import is_state
from conformance.evidence.comparison import Exhibit
from conformance.records.results import CheckResult


class Trajectory(Check):
    name = "trajectory"
    needs = frozenset({LATER_STEPS})
    rule = (
        "The change of every parameter since the start and every optimizer slot after each step, and every "
        "observation of the second step and later, against the oracle. Changes, not parameters: a lost update is "
        "tiny beside a parameter."
    )

    def applies(self, exhibit: Exhibit) -> bool:
        return len(exhibit.truth.oracle) > 1

    def judge(self, exhibit: Exhibit) -> CheckResult:
        later = [one for one in exhibit.comparisons if one.step > 0 or is_state(one.tensor)]
        steps = len(exhibit.evidence.steps)
        if steps != len(exhibit.truth.oracle):
            return self.result(
                compared=len(later),
                failures=[f"The candidate took {steps} steps, the reference {len(exhibit.truth.oracle)}."],
            )
        return within_bounds(self, exhibit, later, exhibit.bound)
