"""Power: plant every known fault and every generated mutation, and see which ones the checks kill.

Mutations are judged without the check `communication`, which would see most of them by counting: values must tell. They
are judged by their first step, and where that is right by all others. A survivor is a hole in the suite, unless it is
proven equivalent (`conformance.power.equivalence`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from conformance.cases.case import Case, Mutation
from conformance.cases.external import is_external
from conformance.cases.fault import Fault
from conformance.cases.resolve import resolve
from conformance.cases.suite import Suite, suites
from conformance.checks import CHECKS, Check
from conformance.checks.census import Census
from conformance.checks.check import RELATION_RUNS
from conformance.contract.alteration import Alteration
from conformance.contract.mesh import Mesh
from conformance.diagnosis import surest
from conformance.diagnosis.exchanges import PLACES
from conformance.power.equivalence import why_equivalent
from conformance.power.suitable import Found, candidates, find
from conformance.power.table import PowerRow, PowerTable
from conformance.records.results import CaseResult, Cause
from conformance.runner.run import TIMEOUT_SECONDS, run
from conformance.trace.operators import OPERATORS, other_axes
from conformance.trace.site import Site
from conformance.workers.jobs import Outcome, SitesJob
from conformance.workers.pool import Workers

ASKED = frozenset({"relations", "census"})
Progress = Callable[[str], None]
BY_VALUES = tuple(check for check in CHECKS if check.name != "communication")
# Laws and changed batch keys cost many runs: they are asked of what they must see, and of the same case without it.
FEW_RUNS = tuple(
    Census(keys=False) if check.name == Census.name else check for check in CHECKS if RELATION_RUNS not in check.needs
)

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One case with a bug in it, or a control.

    `axes` and `causes` are what the diagnosis should name, `planned` are the checks that must see it, `site` is the
    collective that a mutation changes, `neutral` says why a change makes no difference, and without `trials` no further
    runs look for the cause, of which then nothing is asked.
    """

    case: Case
    kind: str
    what: str
    axes: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    planned: tuple[str, ...] = ()
    site: Site | None = None
    neutral: str | None = None
    trials: bool = True


def power(
    names: Sequence[str],
    *,
    implementation: str | None = None,
    contracts: Sequence[str] = (),
    mesh: Mesh | None = None,
    generated: bool = True,
    each_once: bool = False,
    workers: Workers | None = None,
    on_progress: Progress = lambda sentence: None,
) -> PowerTable:
    """Measure the power of some suites, of one implementation (a registered name, or `file.py:Class`) or of all.

    Without `generated`, the named faults and the controls alone; with `each_once`, every fault on one case, and every
    implementation as it is on one; then axis and cause are asked of two faults in five.
    A suite says in `Suite.mutated` whose collectives are mutated; of `file.py:Class` those of every contract of the
    suites, or of the `contracts` given, that it conforms to (`conformance.power.suitable`), on `mesh` if there is one.
    """
    chosen = [suites()[name] for name in names]
    theirs = implementation is not None and is_external(implementation)
    tries = candidates(chosen, implementation, contracts, mesh) if implementation and theirs else []
    with Workers(jax_devices=_most_devices(chosen, tries)) if workers is None else nullcontext(workers) as used:
        if theirs:
            return _measured_of_theirs(find(tries, used, on_progress), used, on_progress)
        planted = [plant for suite in chosen for plant in _faults(suite, implementation, each_once)]
        for suite in chosen if generated else ():
            planted += _mutations(suite, implementation, used, on_progress)
        asked_last = sorted(planted, key=lambda plant: bool(ASKED & {*plant.planned}))
        planted = list({plant.case.id: plant for plant in asked_last}.values())
        not_applicable = {suite.name: dict(suite.not_applicable) for suite in chosen}
        return PowerTable.of(_rows(planted, _judged(planted, used, on_progress), used), not_applicable)


def _measured_of_theirs(suitable: Found, workers: Workers, on_progress: Progress) -> PowerTable:
    """The mutants of somebody's own class; the class as it is has been judged already."""
    planted = [mutant for case, outcome in suitable.sites.items() for mutant in _mutants(case, outcome)]
    mutants = [plant for plant in planted if plant.case.mutation]
    results = {**suitable.controls, **_judged(mutants, workers, on_progress)}
    return PowerTable.of(_rows(planted, results, workers), left_out=suitable.left_out)


def _rows(planted: Sequence[Planted], results: Mapping[str, CaseResult], workers: Workers) -> list[PowerRow]:
    return [_proven(plant, _row(plant, results[plant.case.id]), workers) for plant in planted]


def _most_devices(chosen: Sequence[Suite], tries: Sequence[Case]) -> int:
    if tries:
        return max(case.mesh.devices for case in tries)
    mutated = (case.mesh.devices for suite in chosen for row in suite.mutated for case in row.cases())
    faulty = (Mesh.parse(mesh).devices for suite in chosen for fault in suite.faults for mesh in fault.meshes)
    return max([1, *mutated, *faulty])


def _judged(planted: Sequence[Planted], workers: Workers, on_progress: Progress) -> dict[str, CaseResult]:
    results: dict[str, CaseResult] = {}

    def keep(result: CaseResult) -> None:
        results[result.case.id] = result
        on_progress(f"{len(results)} of {len(planted)}: {result.verdict} {result.case.id}")

    for checks, trials in product((CHECKS, FEW_RUNS, BY_VALUES), (True, False)):
        cases = [plant.case for plant in planted if _checks(plant) is checks and plant.trials is trials]
        if cases:
            run(cases, workers=workers, checks=checks, on_result=keep, bisect=trials, soonest=checks is BY_VALUES)
    return results


def _checks(plant: Planted) -> tuple[Check, ...]:
    if plant.kind == "mutation":
        return BY_VALUES
    return CHECKS if ASKED & {*plant.planned} or (plant.case.fault and plant.kind == "control") else FEW_RUNS


# What is planted.


def _faults(suite: Suite, implementation: str | None, each_once: bool) -> Iterator[Planted]:
    """The named faults and the negative controls of a suite, and as further controls the same cases without them.

    Of these, with `each_once`, one per implementation.
    """
    unchanged: set[str] = set()
    for number, fault in enumerate(suite.faults):
        places = [(name, mesh) for name in fault.planted for mesh in fault.meshes if implementation in (None, name)]
        if each_once and places:
            names = list(fault.planted)
            places = [(names[number % len(names)], fault.meshes[0])]  # implementations, and so frameworks, in turn
        for name, mesh in places:
            control, planted = _fault(fault, name, Mesh.parse(mesh))
            if not each_once or name not in unchanged:
                yield control
            unchanged.add(name)
            asked = not each_once or number % 5 < 2  # implementations take turns by twos and threes
            yield planted if asked else replace(planted, axes=(), causes=(), trials=False)


def _fault(fault: Fault, implementation: str, mesh: Mesh) -> tuple[Planted, Planted]:
    """The case without the fault, and with it."""
    case = Case(contract=fault.contract, implementation=implementation, mesh=mesh, dtype=fault.dtype)
    unchanged = _unchanged(case, tuple(check for check in fault.seen_by if check in ASKED))
    case = replace(case, fault=fault.id)
    if fault.control:
        return unchanged, Planted(case=case, kind="control", what=fault.summary)
    axes = (fault.axis,) if fault.axis else ()
    causes = (*fault.causes, _own_file(fault.planted[implementation])) if fault.causes else ()
    planned = fault.seen_by
    return unchanged, Planted(case=case, kind="fault", what=fault.summary, axes=axes, causes=causes, planned=planned)


def _own_file(planted: str) -> str:
    """The end of the path of the file in which a fault stands: to name one of its lines is to name the cause."""
    return "/".join(planted.partition(":")[0].split(".")[-PLACES:]) + ".py:"


def _unchanged(case: Case, planned: tuple[str, ...] = ()) -> Planted:
    return Planted(case=case, kind="control", what="the implementation as it is", planned=planned)


def _mutations(suite: Suite, implementation: str | None, workers: Workers, on_progress: Progress) -> list[Planted]:
    """Every operator on every collective to which it applies, of every case that the suite has mutated."""
    mutants: list[Planted] = []
    for case in _mutated_cases(suite, implementation):
        on_progress(f"listing the collectives of {case.id}")
        target = resolve(case)
        outcome = workers.run(SitesJob(case=case, framework=target.framework, target=target.path), TIMEOUT_SECONDS)
        mutants += _mutants(case, outcome)
    return mutants


def _mutants(case: Case, listed: Outcome) -> Iterator[Planted]:
    """The case as it is, then every operator on each of its collectives, and what its class can alter itself."""
    yield _unchanged(case)
    yield from (_mutation(case, site, operator) for site in listed.sites for operator in site.operators)
    yield from (_alteration(case, alteration) for alteration in listed.alterations)


def _mutated_cases(suite: Suite, implementation: str | None) -> list[Case]:
    cases = [case for row in suite.mutated for case in row.cases()]
    if implementation is not None:
        cases = [case for case in cases if case.implementation == implementation]
    return list({case.id: case for case in cases}.values())


def _mutation(case: Case, site: Site, operator: str) -> Planted:
    """A mutation is on the axes of its collective; one over the wrong axes is on those too; rounding is on none."""
    axes = site.axes + (other_axes(site.axes, case.mesh) if operator == "wrong_axis" else ())
    axes = () if operator == "low_precision" else axes
    shape = "x".join(map(str, site.shape)) or "scalar"
    what = f"{site.phase} {site.kind} over {'+'.join(site.axes)} of {shape}: {OPERATORS[operator].law}"
    mutated = replace(case, mutation=Mutation(operator=operator, site=site.number))
    causes = OPERATORS[operator].causes
    return Planted(case=mutated, kind="mutation", what=what, axes=axes, causes=causes, site=site)


def _alteration(case: Case, alteration: Alteration) -> Planted:
    altered = replace(case, mutation=Mutation(operator=alteration.operator, site=alteration.site))
    return Planted(
        case=altered,
        kind="mutation",
        what=alteration.what,
        axes=(alteration.axis,),
        causes=alteration.causes,
        planned=alteration.seen_by,
        neutral=alteration.neutral,
    )


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
    return _saying(row, surest(check.diagnosis for check in failed))


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
