"""Variations of one failed case, for bisection: on a narrower mesh, or with one feature of the recipe taken away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from conformance.cases.case import Case
from conformance.cases.resolve import Target
from conformance.checks import Check
from conformance.evidence.intermediates import Intermediates
from conformance.records.results import CaseResult
from conformance.runner.carried import carried
from conformance.runner.programs import SECONDS, Programs
from conformance.workers.jobs import ReferencePartsJob, ReferenceValuesJob, ValuesJob
from conformance.workers.pool import Workers

Judge = Callable[[Case, Target, Sequence[Check]], CaseResult]


class Variations:
    """Judges them by their first step, and where that is right by the checks that failed of the case itself.

    programs    what is known of programs, kept for the next case
    """

    def __init__(
        self,
        failed: CaseResult,
        *,
        checks: Sequence[Check],
        judge: Judge,
        programs: Programs,
        workers: Workers,
    ) -> None:
        failing = {check.check for check in failed.checks if check.verdict == "fail"}
        self._case, self._judge, self._programs, self._workers = failed.case, judge, programs, workers
        self._first = [check for check in checks if not check.needs]
        self._more = [check for check in checks if check.needs and check.name in failing]
        self._enough = any(check.name in failing for check in self._first)

    def __call__(self, case: Case, target: Target) -> CaseResult | None:
        """The variation, judged; None where the mutation of the case cannot be found in it."""
        if case.mutation is None or case.mesh == self._case.mesh:
            return self._judged(case, target)
        varied = carried(self._case, case, lambda other: self._programs.sites(other, self._workers))
        if varied is None or varied.mutation is not None:
            return None if varied is None else self._judged(varied, target)
        if varied not in self._programs.unchanged:
            self._programs.unchanged[varied] = self._judged(varied, target)
        return self._programs.unchanged[varied]

    def values(self, case: Case, target: Target) -> Intermediates | None:
        """What every operation of the first step makes; on another mesh than the case's own, without its mutation."""
        case = replace(case, dtype="float64", mutation=case.mutation if case.mesh == self._case.mesh else None)
        job = ValuesJob(case=case, framework=target.framework, target=target.path, fault=target.fault)
        return self._programs.values(job, self._workers)

    def reference_values(self, case: Case, target: Target) -> Intermediates | None:
        """The same of the reference."""
        job = ReferenceValuesJob(contract=case.contract, framework=target.framework, seed=case.seed)
        return self._programs.values(job, self._workers)

    def losses_of_parts(self, case: Case, target: Target, parts: int) -> tuple[float, ...]:
        """The loss of the reference on each of so many equal parts of the rows."""
        job = ReferencePartsJob(contract=case.contract, framework=target.framework, seed=case.seed, parts=parts)
        return tuple(float(part["loss"]) for part in self._workers.run(job, SECONDS).parts)

    def _judged(self, case: Case, target: Target) -> CaseResult:
        every = [*self._first, *self._more]
        result = self._judge(case, target, self._first if self._enough else every)
        if self._enough and self._more and result.verdict == "pass":
            return self._judge(case, target, every)
        return result
