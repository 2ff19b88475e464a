"""Variations of one failed case, for bisection: on a narrower mesh, or with one feature of the recipe taken away."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence

from conformance.cases.case import Case
from conformance.cases.resolve import Target
from conformance.checks import Check
from conformance.records.results import CaseResult
from conformance.runner.carried import Listed, carried

Judge = Callable[[Case, Target, Sequence[Check]], CaseResult]


class Variations:
    """Judges them by their first step, and where that is right by the checks that failed of the case itself.

    listed      what can be mutated in the program of a case
    unchanged   results of programs in which the mutation has nothing to change, kept for the next mutant
    """

    def __init__(
        self,
        failed: CaseResult,
        *,
        checks: Sequence[Check],
        judge: Judge,
        listed: Listed,
        unchanged: MutableMapping[Case, CaseResult],
    ) -> None:
        failing = {check.check for check in failed.checks if check.verdict == "fail"}
        self._case, self._judge, self._listed, self._unchanged = failed.case, judge, listed, unchanged
        self._first = [check for check in checks if not check.needs]
        self._more = [check for check in checks if check.needs and check.name in failing]
        self._enough = any(check.name in failing for check in self._first)

    def __call__(self, case: Case, target: Target) -> CaseResult | None:
        """The variation, judged; None where the mutation of the case cannot be found in it."""
        if case.mutation is None or case.mesh == self._case.mesh:
            return self._judged(case, target)
        varied = carried(self._case, case, self._listed)
        if varied is None or varied.mutation is not None:
            return None if varied is None else self._judged(varied, target)
        if varied not in self._unchanged:
            self._unchanged[varied] = self._judged(varied, target)
        return self._unchanged[varied]

    def _judged(self, case: Case, target: Target) -> CaseResult:
        every = [*self._first, *self._more]
        result = self._judge(case, target, self._first if self._enough else every)
        if self._enough and self._more and result.verdict == "pass":
            return self._judge(case, target, every)
        return result
