"""Captured runs, judged: the checks that need no further run, on any machine."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from conformance.capture.captured import CapturedRun
from conformance.capture.fed import Batch
from conformance.capture.meshes import with_place
from conformance.capture.records import said_mesh
from conformance.capture.reference_run import ReferenceRun
from conformance.cases.case import Case
from conformance.cases.usage import choose
from conformance.checks.census import Census
from conformance.checks.check import Check
from conformance.checks.layout import Layout
from conformance.checks.logic import Logic
from conformance.checks.numerics import Numerics
from conformance.checks.replicas import Replicas
from conformance.checks.trajectory import Trajectory
from conformance.contract.implementation import FRAMEWORKS, Declarations
from conformance.contract.mesh import Mesh
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Evidence
from conformance.records.results import CaseResult, CheckResult
from conformance.runner.judge import judge, verdict_of

BATCH = Batch()
OF_NUMBERS = ("logic", "numerics")
CENSUS = Census(keys=False, metrics=False)  # a trainer that clips by its own arithmetic has a norm that no hook sees
CHECKS: tuple[Check, ...] = (CENSUS, Logic(), Numerics(), Replicas(), Trajectory(), Layout())


def judged(run: CapturedRun, recorded: ReferenceRun) -> CaseResult:
    """One captured run held to the recording: its checks, the first divergence and what explains it."""
    case_run = _case_run(run, recorded)
    results = _with_batch(_with_oracle(judge(case_run, CHECKS), recorded), case_run)
    verdict = verdict_of(results)
    reason = ""
    if run.ended:
        right = "wrong" if verdict == "fail" else "right"
        reason = f"{run.ended}. What all ranks had finished, {len(run.steps)} of {recorded.steps} steps, is {right}."
        verdict = "fail" if verdict == "fail" else "crash"
    result = CaseResult(
        case=case_run.case,
        framework=choose("framework", run.ranks[0].framework, FRAMEWORKS),
        verdict=verdict,
        checks=results,
        reason=reason,
        reproduce=reproduce(recorded.folder, run.folder),
    )
    return with_place(result)


def unjudged(folder: Path, recorded: ReferenceRun, why: str) -> CaseResult:
    """A run that cannot be judged, with the sentence that says why."""
    return CaseResult(
        case=_case(folder, said_mesh(folder), recorded),
        framework=choose("framework", recorded.rank.framework, FRAMEWORKS),
        verdict="error",
        reason=why,
        reproduce=reproduce(recorded.folder, folder),
    )


def _case(folder: Path, mesh: Mesh, recorded: ReferenceRun) -> Case:
    name, dtype = recorded.contract.name, recorded.dtype
    return Case(contract=name, implementation=str(folder), mesh=mesh, dtype=dtype, devices="real")


def _case_run(run: CapturedRun, recorded: ReferenceRun) -> CaseRun:
    case = _case(run.folder, run.mesh, recorded)
    return CaseRun(case=case, contract=recorded.contract, evidence=_evidence(run), reference=recorded.reference)


def _with_oracle(results: tuple[CheckResult, ...], recorded: ReferenceRun) -> tuple[CheckResult, ...]:
    """The checks of numbers say which oracle they were held to."""
    return tuple(
        replace(result, detail=f"{result.detail} {recorded.oracle}".strip()) if result.check in OF_NUMBERS else result
        for result in results
    )


def _with_batch(results: tuple[CheckResult, ...], case_run: CaseRun) -> tuple[CheckResult, ...]:
    """The check of the batch first; where rows are not read, that is why everything else is wrong."""
    if not BATCH.applies(case_run):
        return results
    batch = BATCH.judge(case_run)
    if batch.verdict == "fail":
        results = tuple(
            replace(result, diagnosis=batch.diagnosis) if result.verdict == "fail" else result for result in results
        )
    return (batch, *results)


def reproduce(single: Path, run: Path) -> str:
    return shlex.join(["shardproof", "judge", str(single), str(run)])


def _evidence(run: CapturedRun) -> Evidence:
    ranks = {position for rank in run.ranks for position in rank.positions}
    return Evidence(
        initial=run.initial,
        steps=run.steps,
        declarations=Declarations(),
        devices=tuple(sorted(ranks)),
        batch=run.batch,
        unwatched="it ran under its own launcher",
        broke_off=bool(run.ended),
    )
