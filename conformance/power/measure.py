"""Power: plant every known fault and every generated mutation, and see which ones the checks kill.

Mutations are judged without the check `communication`, which would see most of them by counting: values must tell. They
are judged by their first step, and where that is right by all others. A survivor is a hole in the suite, unless it is
proven equivalent (`conformance.power.equivalence`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path

from conformance.cases.case import Case
from conformance.cases.external import is_external
from conformance.cases.suite import Suite, suites
from conformance.checks import CHECKS, Check
from conformance.checks.census import Census
from conformance.checks.check import RELATION_RUNS
from conformance.contract.mesh import Mesh
from conformance.diagnosis import surest
from conformance.power.equivalence import why_equivalent
from conformance.power.journal import Journal
from conformance.power.planted import ASKED, Planted, Progress, faults, mutants, mutations
from conformance.power.suitable import Found, candidates, find
from conformance.power.table import PowerRow, PowerTable
from conformance.records.results import DIAGNOSIS, CaseResult, Cause
from conformance.runner.run import run
from conformance.workers.pool import Workers

BY_VALUES = tuple(check for check in CHECKS if check.name != "communication")
# Laws and changed batch keys cost many runs: they are asked of what they must see, and of the same case without it.
FEW_RUNS = tuple(
    Census(keys=False) if check.name == Census.name else check for check in CHECKS if RELATION_RUNS not in check.needs
)

_ROOT = Path(__file__).parents[2]


def power(
    names: Sequence[str],
    *,
    implementation: str | None = None,
    contracts: Sequence[str] = (),
    mesh: Mesh | None = None,
    generated: bool = True,
    each_once: bool = False,
    workers: Workers | None = None,
    journal: Journal | None = None,
    on_progress: Progress = lambda sentence: None,
) -> PowerTable:
    """Measure the power of some suites, of one implementation (a registered name, or `file.py:Class`) or of all.

    Without `generated`, the named faults and the controls alone; with `each_once`, every fault on one case, and every
    implementation as it is on one; then axis and cause are asked of two faults in five.
    A suite says in `Suite.mutated` whose collectives are mutated; of `file.py:Class` those of every contract of the
    suites, or of the `contracts` given, that it conforms to (`conformance.power.suitable`), on `mesh` if there is one.
    What the `journal` has already is not judged again.
    """
    chosen = [suites()[name] for name in names]
    theirs = implementation is not None and is_external(implementation)
    tries = candidates(chosen, implementation, contracts, mesh) if implementation and theirs else []
    with Workers(jax_devices=_most_devices(chosen, tries)) if workers is None else nullcontext(workers) as used:
        if theirs:
            return _measured_of_theirs(find(tries, used, on_progress), used, on_progress)
        planted = [plant for suite in chosen for plant in faults(suite, implementation, each_once)]
        for suite in chosen if generated else ():
            planted += mutations(suite, implementation, used, on_progress)
        asked_last = sorted(planted, key=lambda plant: bool(ASKED & {*plant.planned}))
        planted = list({plant.case.id: plant for plant in asked_last}.values())
        not_applicable = {suite.name: dict(suite.not_applicable) for suite in chosen}
        return PowerTable.of(_rows(planted, _judged(planted, used, on_progress, journal), used), not_applicable)


def _measured_of_theirs(suitable: Found, workers: Workers, on_progress: Progress) -> PowerTable:
    """The mutants of somebody's own class; the class as it is has been judged already."""
    planted = [mutant for case, outcome in suitable.sites.items() for mutant in mutants(case, outcome)]
    changed = [plant for plant in planted if plant.case.mutation]
    results = {**suitable.controls, **_judged(changed, workers, on_progress)}
    return PowerTable.of(_rows(planted, results, workers), left_out=suitable.left_out)


def _rows(planted: Sequence[Planted], results: Mapping[str, CaseResult], workers: Workers) -> list[PowerRow]:
    return [_proven(plant, _row(plant, results[plant.case.id]), workers) for plant in planted]


def _most_devices(chosen: Sequence[Suite], tries: Sequence[Case]) -> int:
    if tries:
        return max(case.mesh.devices for case in tries)
    mutated = (case.mesh.devices for suite in chosen for row in suite.mutated for case in row.cases())
    faulty = (Mesh.parse(mesh).devices for suite in chosen for fault in suite.faults for mesh in fault.meshes)
    return max([1, *mutated, *faulty])


def _judged(
    planted: Sequence[Planted], workers: Workers, on_progress: Progress, journal: Journal | None = None
) -> dict[str, CaseResult]:
    results = {} if journal is None else dict(journal.results())

    def keep(result: CaseResult) -> None:
        results[result.case.id] = result
        if journal is not None:
            journal.add(result)
        on_progress(f"{len(results)} of {len(planted)}: {result.verdict} {result.case.id}")

    for checks, trials in product((CHECKS, FEW_RUNS, BY_VALUES), (True, False)):
        asked = [plant.case for plant in planted if _checks(plant) is checks and plant.trials is trials]
        cases = [case for case in asked if case.id not in results]
        if cases:
            run(cases, workers=workers, checks=checks, on_result=keep, bisect=trials, soonest=checks is BY_VALUES)
    return results


def _checks(plant: Planted) -> tuple[Check, ...]:
    if plant.kind == "mutation":
        return BY_VALUES
    return CHECKS if ASKED & {*plant.planned} or (plant.case.fault and plant.kind == "control") else FEW_RUNS


# What came out.


def _row(planted: Planted, result: CaseResult) -> PowerRow:
    case = planted.case
    failed = [check for check in result.checks if check.verdict == "fail"]
    result = replace(result, reason=result.reason.replace(f"{_ROOT}/", ""))  # a table is read on other machines
    row = PowerRow(
        kind=planted.kind,
        id=case.fault or (str(case.mutation) if case.mutation else "unchanged"),
        what=planted.what,
        contract=case.contract,
        implementation=case.implementation,
        mesh=str(case.mesh),
        dtype=case.dtype,
        verdict=result.verdict,
        seen_by=tuple(check.check for check in failed),
        planned=planted.planned,
        axes=planted.axes,
        causes=planted.causes,
        cannot_run=_no_program(planted, result),
        reason=result.reason or (failed[0].detail if failed and planted.kind == "control" else ""),
    )
    return _saying(_timed(row, result), surest(check.diagnosis for check in failed))


def _timed(row: PowerRow, result: CaseResult) -> PowerRow:
    diagnosis = result.phases.get(DIAGNOSIS)
    return replace(
        row,
        seconds=round(result.seconds - (diagnosis or 0.0), 3),
        diagnosis_seconds=None if diagnosis is None else round(diagnosis, 3),
    )


def _saying(row: PowerRow, best: Cause | None) -> PowerRow:
    """The row, with the surest of what the diagnosis says."""
    if best is None:
        return row
    return replace(
        row,
        axis=best.axis,
        cause=best.cause,
        confidence=round(best.confidence, 3),
        axis_confidence=round(best.axis_sure, 3) if best.axis is not None else None,
        place=best.place,
    )


def _no_program(planted: Planted, result: CaseResult) -> str | None:
    """A mutant with the wrong shape was never run, and one that breaks off ran to no end: nobody has caught them.

    A collective of lengths is such a one: with other lengths the messages behind it have no room.
    """
    if planted.kind != "mutation":
        return None
    if "MutationError" in result.reason + result.stack:
        return result.reason or "the mutated collective has the wrong shape"
    broke = planted.site is not None and result.verdict in ("error", "crash", "hang")
    return f"the program breaks off: {result.reason}" if broke else None


# Which survivors are none.


def _proven(planted: Planted, row: PowerRow, workers: Workers) -> PowerRow:
    """The row, with the proof of equivalence where there is one."""
    if row.killed or row.verdict != "pass" or row.cannot_run:
        return row
    if planted.site is None:
        return replace(row, equivalent=planted.neutral)
    return replace(row, equivalent=why_equivalent(planted.case, planted.site.reduction, workers))
