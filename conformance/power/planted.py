"""What is planted: named faults, their controls, and every operator on every collective that it applies to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from conformance.cases.case import Case, Mutation
from conformance.cases.fault import Fault
from conformance.cases.resolve import resolve
from conformance.cases.suite import Suite
from conformance.contract.alteration import Alteration
from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.exchanges import PLACES
from conformance.runner.run import TIMEOUT_SECONDS
from conformance.trace.operators import OPERATORS, other_axes
from conformance.trace.site import Site
from conformance.workers.jobs import Outcome, SitesJob
from conformance.workers.pool import Workers

ASKED = frozenset({"relations", "census"})  # checks that cost many runs: asked of what they must see
Progress = Callable[[str], None]


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


def faults(suite: Suite, implementation: str | None, each_once: bool) -> Iterator[Planted]:
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


def mutations(suite: Suite, implementation: str | None, workers: Workers, on_progress: Progress) -> list[Planted]:
    """Every operator on every collective to which it applies, of every case that the suite has mutated."""
    planted: list[Planted] = []
    for case in _mutated_cases(suite, implementation):
        on_progress(f"listing the collectives of {case.id}")
        target = resolve(case)
        outcome = workers.run(SitesJob(case=case, framework=target.framework, target=target.path), TIMEOUT_SECONDS)
        planted += mutants(case, outcome)
    return planted


def mutants(case: Case, listed: Outcome) -> Iterator[Planted]:
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
