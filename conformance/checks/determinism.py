"""`determinism`: the same layout twice gives the same bits."""

from __future__ import annotations

from conformance.checks.check import DETERMINISM, Check
from conformance.checks.replicas import in_flow
from conformance.evidence.blocks import same_bits
from conformance.evidence.comparison import CaseRun
from conformance.records.results import CheckResult


class Determinism(Check):
    name = "determinism"
    needs = frozenset({DETERMINISM})
    rule = "The first step, run again from a second placement on the same mesh, gives the same bits on every rank."

    def applies(self, case_run: CaseRun) -> bool:
        return case_run.evidence.repeated is not None

    def judge(self, case_run: CaseRun) -> CheckResult:
        again = case_run.evidence.repeated or {}
        once = case_run.evidence.steps[0]
        failures, first = [], None
        for name, observed in in_flow(case_run, {name: once[name] for name in again if name in once}):
            if not same_bits(observed, again[name]):
                failures.append(f"{name} has other bits when the same step is run again.")
                first = first or f"step 1: {name}"
        return self.result(compared=len(again), failures=failures, first=first)
