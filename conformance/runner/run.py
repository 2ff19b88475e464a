"""Run cases: workers compute, the main process judges and hands over one result per case, whatever happens."""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from conformance.cases.case import Case
from conformance.cases.resolve import Target, resolve
from conformance.checks import CHECKS, Check
from conformance.checks.check import DETERMINISM, INPUT_SENSITIVITY, LATER_STEPS, RELATION_RUNS, TRACE
from conformance.contract.contract import Arrays, Contract
from conformance.diagnosis.bisection import bisected
from conformance.diagnosis.look import with_look
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Evidence, ReferenceResult
from conformance.records.reproduce import reproduction
from conformance.records.results import DIAGNOSIS, CaseResult, CheckResult
from conformance.relations.second_model import SecondModel
from conformance.runner.broken import broken, broken_off
from conformance.runner.isolation import Isolation
from conformance.runner.judge import judge, lies_in_reference, verdict_of
from conformance.runner.lanes import Kept, Lane, Queue, grouped, most, until_done
from conformance.runner.programs import Programs
from conformance.runner.variations import Variations
from conformance.workers.jobs import CaseJob, Outcome, ReferenceJob
from conformance.workers.pool import Workers

TIMEOUT_SECONDS = 120.0
PARAMETERS_PER_SECOND = 100_000  # of a contract: a large one is given so much more time
LAW_SECONDS = 30.0  # more before a case counts as hanging, for each relation of its contract
TRUTHS_KEPT = 24


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What a run amounts to."""

    cases: int = 0
    unexpected: int = 0
    verdicts: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def run(
    cases: Sequence[Case],
    *,
    workers: Workers | None = None,
    checks: Sequence[Check] | None = None,
    on_result: Callable[[CaseResult], None] = lambda result: None,
    on_progress: Callable[[str], None] = lambda sentence: None,
    timeout_seconds: float | None = None,
    bisect: bool = True,
    alone: bool = False,
    as_given: bool = False,
    at_once: int | None = None,
    soonest: bool = False,
) -> Totals:
    """Judge every case, several at once. `on_result` is called once per case, one call at a time.

    timeout_seconds   after which a case counts as hanging; None: long enough for its size and its relations
    bisect     what fails and is not understood is run again with one thing taken away at a time
    alone      what fails is run once more, alone in fresh processes, to see whether earlier cases make it fail
    as_given   in the order given, instead of one that puts the cases of a program together; the frameworks side by side
    at_once    cases at once; None: as many as the machine has cores and memory for
    soonest    what fails by its first step is not run any further
    """
    devices = max((case.mesh.devices for case in cases), default=1)
    with Workers(jax_devices=devices) if workers is None else nullcontext(workers) as used:
        started, kept, queue = time.perf_counter(), Kept(on_result), Queue(grouped(cases, as_given))
        runner = CaseRunner(
            workers=used,
            checks=checks or CHECKS,
            timeout_seconds=timeout_seconds,
            bisect=bisect,
            alone=alone,
            soonest=soonest,
        )
        lanes = [
            Lane(queue.entries(number), runner.of_lane(number).judge_case, kept, on_progress)
            for number in range(min(at_once or most(), queue.lanes))
        ]
        try:
            for lane in lanes:
                lane.start()
            until_done(lanes)
        finally:
            kept.end()
    return _totals(kept.results, time.perf_counter() - started)


class CaseRunner:
    """Where a case is run and judged: warm workers, and the truths that cases share."""

    def __init__(
        self,
        *,
        workers: Workers,
        checks: Sequence[Check] = CHECKS,
        timeout_seconds: float | None = None,
        bisect: bool = True,
        alone: bool = False,
        soonest: bool = False,
    ):
        self.workers = workers
        self.checks = checks
        self.timeout_seconds = timeout_seconds
        self.bisect = bisect
        self.soonest = soonest
        self.isolation = Isolation(self._afresh) if alone else None
        self._truths: OrderedDict[tuple[Any, ...], Outcome] = OrderedDict()
        self._lock = threading.Lock()
        self._programs = Programs()
        self._answered: set[tuple[Any, ...]] = set()  # programs of which it is known what every batch key changes

    def of_lane(self, number: int) -> CaseRunner:
        """The same with the workers of one lane."""
        made = copy(self)
        made.workers = self.workers.lane(number)
        return made

    def _patience(self, target: Target, relations: int = 0) -> float:
        """Seconds within which a worker must answer: those that were asked for, or enough for what it has to do."""
        if self.timeout_seconds is not None:
            return self.timeout_seconds
        parameters = sum(map(math.prod, target.contract.shapes.values()))
        return TIMEOUT_SECONDS + parameters / PARAMETERS_PER_SECOND + LAW_SECONDS * relations

    def judge_case(self, case: Case, target: Target) -> CaseResult:
        """Run one case and judge it; whatever breaks, in a worker or here, is a verdict and never an exception."""
        started = time.perf_counter()
        try:
            result = self._first_judged(case, target) if self.soonest else self._judged(case, target, self.checks)
            if self.isolation is not None:
                result = self.isolation.examined(result, self.workers.before(case, target.framework))
            if self.bisect and result.verdict == "fail" and not result.after and not lies_in_reference(result.checks):
                result = self._diagnosed(result, target)
        except Exception as failure:
            outcome = Outcome(failure="error", reason=f"The judge broke: {failure}", stack=traceback.format_exc())
            result = broken(case, target, outcome)
        result = with_look(replace(result, reproduce=reproduction(result)))
        return replace(result, seconds=time.perf_counter() - started)

    def _diagnosed(self, failed: CaseResult, target: Target) -> CaseResult:
        """With what further runs have shown, and the seconds that they took."""
        started = time.perf_counter()
        result = bisected(failed, target, self._varied(failed))
        return replace(result, phases={**result.phases, DIAGNOSIS: time.perf_counter() - started})

    def _afresh(self, cases: Sequence[Case], timeout_seconds: float | None) -> CaseResult:
        """Judge cases one after the other in processes that have run nothing yet -> the result of the last."""
        with self.workers.fresh() as fresh:
            limit = min(filter(None, (timeout_seconds, self.timeout_seconds)), default=None)
            runner = CaseRunner(workers=fresh, checks=self.checks, timeout_seconds=limit, bisect=False)
            return [runner.judge_case(case, resolve(case)) for case in cases][-1]

    def _first_judged(self, case: Case, target: Target) -> CaseResult:
        """By the first step alone, and by all there is where that step is right."""
        result = self._judged(case, target, [check for check in self.checks if not check.needs])
        return self._judged(case, target, self.checks) if result.verdict == "pass" else result

    def _varied(self, failed: CaseResult) -> Variations:
        return Variations(failed, checks=self.checks, judge=self._judged, programs=self._programs, workers=self.workers)

    def _judged(self, case: Case, target: Target, checks: Sequence[Check]) -> CaseResult:
        fresh, reference = self._truth(case, target)
        if reference.failure is not None:
            return broken(case, target, reference)
        job = self._job(case, target, () if reference.reference is None else reference.reference.decisions, checks)
        outcome = self.workers.run(job, self._patience(target, len(job.relations)))
        if outcome.evidence is None or reference.reference is None or outcome.failure == "unsupported":
            return broken(case, target, outcome)
        case_run = CaseRun(
            case=case, contract=target.contract, evidence=outcome.evidence, reference=reference.reference
        )
        if outcome.failure is not None:
            return broken_off(case_run, target, outcome, checks)
        if job.input_sensitivity:
            self._answered.add(_keyed(case))
        rows = partial(self._programs.rows, case, target, self.workers)
        case_run = replace(case_run, others=self._others(case, outcome.evidence), rows=rows)
        return _result(case_run, target, judge(case_run, checks), reference.seconds if fresh else 0.0)

    def _job(self, case: Case, target: Target, decisions: tuple[Arrays, ...], checks: Sequence[Check]) -> CaseJob:
        """What every batch key changes is asked once per program: other seeds and dtypes read the same batch.

        So are the relations of the contract, of the case that has no tolerance to hide behind.
        """
        needs = {need for check in checks for need in check.needs}
        lawful = RELATION_RUNS in needs and (case.dtype, case.seed, case.mutation) == ("float64", 0, None)
        return CaseJob(
            case=case,
            framework=target.framework,
            target=target.path,
            fault=target.fault,
            later_steps=LATER_STEPS in needs,
            determinism=DETERMINISM in needs,
            input_sensitivity=INPUT_SENSITIVITY in needs
            and case.mutation is None
            and _keyed(case) not in self._answered,
            trace=TRACE in needs,
            relations=target.contract.relations if lawful else (),
            decisions=decisions,
            others=target.others if lawful else (),
        )

    def _others(self, case: Case, evidence: Evidence) -> dict[str, tuple[Contract, ReferenceResult]]:
        """The reference result of the other model that a relation has built beside the case."""
        results = {}
        for built in evidence.related.get(SecondModel.name, ())[:1]:
            other = replace(case, contract=built.label, fault=None)
            target = resolve(other)
            reference = self._truth(other, target)[1].reference
            if reference is not None:
                results[built.label] = target.contract, reference
        return results

    def _truth(self, case: Case, target: Target) -> tuple[bool, Outcome]:
        key = (case.contract, target.framework, case.dtype, case.seed)
        with self._lock:
            known = self._truths.get(key)
        if known is not None:
            return False, known
        job = ReferenceJob(contract=case.contract, framework=target.framework, dtype=case.dtype, seed=case.seed)
        outcome = self.workers.run(job, self._patience(target))
        with self._lock:
            self._truths[key] = outcome
            while len(self._truths) > TRUTHS_KEPT:
                self._truths.popitem(last=False)
        return True, outcome


def _result(case_run: CaseRun, target: Target, checks: tuple[CheckResult, ...], reference_seconds: float) -> CaseResult:
    return CaseResult(
        case=case_run.case,
        framework=target.framework,
        verdict=verdict_of(checks),
        checks=checks,
        phases={**case_run.evidence.seconds, "reference": reference_seconds},
        timeline=case_run.evidence.timeline,
    )


def _keyed(case: Case) -> tuple[Any, ...]:
    return (case.contract, case.implementation, case.mesh, case.devices, case.fault)


def _totals(results: Sequence[CaseResult], seconds: float) -> Totals:
    return Totals(
        cases=len(results),
        unexpected=sum(not result.as_expected for result in results),
        verdicts=dict(Counter(result.verdict for result in results)),
        seconds=seconds,
    )
