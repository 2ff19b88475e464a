"""A case that broke: what is known of it, and what the steps say that it had finished before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from conformance.cases.case import Case
from conformance.cases.resolve import Target
from conformance.checks import Check
from conformance.checks.check import LATER_STEPS
from conformance.evidence.comparison import CaseRun
from conformance.records.results import CaseResult
from conformance.runner.judge import judge, verdict_of
from conformance.workers.jobs import Outcome


def broken(case: Case, target: Target, outcome: Outcome) -> CaseResult:
    return CaseResult(
        case=case,
        framework=target.framework,
        verdict=outcome.failure or "error",
        reason=outcome.reason,
        stack=outcome.stack,
        output=outcome.output,
        phases=dict(outcome.phases),
        missing=outcome.missing,
    )


def broken_off(case_run: CaseRun, target: Target, outcome: Outcome, checks: Sequence[Check]) -> CaseResult:
    """What broke, and what the steps say that were finished before: a wrong one is a failure, and often its reason."""
    able = [check for check in checks if check.needs <= {LATER_STEPS}]
    finished, steps = len(case_run.evidence.steps), case_run.contract.recipe.steps
    results = judge(case_run, able)
    wrong = verdict_of(results) == "fail"
    how = "wrong" if wrong else "right"
    said = f"{outcome.reason.rstrip('.')}. It had finished {finished} of {steps} steps, which are {how}."
    result = broken(case_run.case, target, replace(outcome, reason=said))
    return replace(
        result,
        verdict="fail" if wrong else result.verdict,
        checks=results,
        phases=dict(case_run.evidence.seconds),
        timeline=case_run.evidence.timeline,
    )
