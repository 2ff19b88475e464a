"""`trajectory`: several steps with clipping active; a stale parameter or a lost update shows here first."""

from __future__ import annotations

from conformance.checks.check import LATER_STEPS, Check, within_bounds
from conformance.checks.logic import is_state
from conformance.evidence.comparison import CaseRun
from conformance.records.results import CheckResult


class Trajectory(Check):
    name = "trajectory"
    needs = frozenset({LATER_STEPS})
    rule = (
        "The change of every parameter since the start and every optimizer slot after each step, and every "
        "observation of the second step and later, against the oracle. Changes, not parameters: a lost update is "
        "tiny beside a parameter."
    )

    def applies(self, case_run: CaseRun) -> bool:
        return len(case_run.reference.oracle) > 1

    def judge(self, case_run: CaseRun) -> CheckResult:
        later = [
            comparison for comparison in case_run.comparisons if comparison.step > 0 or is_state(comparison.tensor)
        ]
        steps = len(case_run.evidence.steps)
        if steps != len(case_run.reference.oracle) and not case_run.evidence.broke_off:
            return self.result(
                compared=len(later),
                failures=[f"The candidate took {steps} steps, the reference {len(case_run.reference.oracle)}."],
            )
        return within_bounds(self, case_run, later, case_run.bound)
