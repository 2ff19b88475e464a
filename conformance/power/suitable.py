"""Where the collectives of somebody's own class are mutated: contracts that it conforms to, meshes that suit them.

Nobody implements every contract. One that the class refuses, does not know or does not pass as it is, is left out and
the reason said: a mutant there would prove nothing, and the failure is no false alarm of a check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from conformance.cases.case import Case, Dtype
from conformance.cases.external import framework_of
from conformance.cases.resolve import resolve
from conformance.cases.suite import PROFILES, Suite
from conformance.checks import CHECKS
from conformance.contract.contract import Contract
from conformance.contract.mesh import Mesh
from conformance.records.results import CaseResult
from conformance.runner.run import TIMEOUT_SECONDS, run
from conformance.workers.jobs import Outcome, SitesJob
from conformance.workers.pool import Workers

DTYPE: Dtype = "float64"
WITHOUT_LAWS = tuple(check for check in CHECKS if check.name != "relations")
BY_ANNOTATION = (
    "its program has no collective: what is divided by annotations alone gets its collectives from XLA's partitioner, "
    "and only those that the program writes out (as in shard_map) can be changed"
)
NO_COLLECTIVE = "its step issues no collective that is seen"
NO_OPERATOR = "no change applies to any of its collectives"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What can be mutated.

    sites     case -> its collectives, and what the implementation alters itself
    controls  case id -> what was found of the implementation as it is, a pass
    left_out  where nothing is planted -> why, in the order in which it was tried
    """

    sites: Mapping[Case, Outcome]
    controls: Mapping[str, CaseResult]
    left_out: Mapping[str, str]


def candidates(
    chosen: Sequence[Suite], implementation: str, contracts: Sequence[str] = (), mesh: Mesh | None = None
) -> list[Case]:
    """The cases to try: of these contracts, or of every contract of the suites; on this mesh, or on those that suit."""
    framework_of(implementation)  # refuses a file that does not import, in one sentence
    return [
        Case(contract=contract.name, implementation=implementation, mesh=tried, dtype=DTYPE)
        for suite in chosen
        for contract in suite.contracts
        if not contracts or contract.name in contracts
        for tried in ([mesh] if mesh is not None else _meshes(suite, contract))
    ]


def _meshes(suite: Suite, contract: Contract) -> list[Mesh]:
    """Those on which the suite mutates the contract; else those of its first profile that has the contract."""
    mutated = [case for row in suite.mutated for case in row.cases()]
    for cases in (mutated, *map(suite.cases, PROFILES)):
        having = [case for case in cases if (case.contract, case.expect) == (contract.name, "pass")]
        meshes = {str(case.mesh): case.mesh for case in having if case.mesh.devices > 1}
        if meshes:
            return list(meshes.values())
    return []


def find(cases: Sequence[Case], workers: Workers, on_progress: Callable[[str], None]) -> Found:
    """Try every case: list its collectives, then judge those that have any, as they are."""
    sites: dict[Case, Outcome] = {}
    left_out: dict[str, str] = {}
    for case in cases:
        on_progress(f"listing the collectives of {case.id}")
        outcome = _listed(case, workers)
        if why := _nothing_in(outcome, case):
            left_out[_spoken(case)] = why
        else:
            sites[case] = outcome
    controls: dict[str, CaseResult] = {}
    run(
        list(sites),
        workers=workers,
        checks=WITHOUT_LAWS,
        bisect=False,
        on_result=lambda result: controls.update({result.case.id: result}),
    )
    for case in list(sites):
        if (result := controls[case.id]).verdict != "pass":
            left_out[_spoken(case)] = f"it does not conform as it is: {_complaint(result)}"
            del sites[case], controls[case.id]
    return Found(sites=sites, controls=controls, left_out=left_out)


def _listed(case: Case, workers: Workers) -> Outcome:
    target = resolve(case)
    return workers.run(SitesJob(case=case, framework=target.framework, target=target.path), TIMEOUT_SECONDS)


def _nothing_in(outcome: Outcome, case: Case) -> str | None:
    """Why nothing can be planted; None where something can."""
    if outcome.failure == "unsupported":
        return f"it refuses: {outcome.reason}"
    if outcome.missing is not None:
        return outcome.reason
    if outcome.failure is not None:
        return f"it does not run there: {outcome.reason}"
    if any(site.operators for site in outcome.sites) or outcome.alterations:
        return None
    if outcome.sites:
        return NO_OPERATOR
    if outcome.unwatched:
        return f"its collectives are not known: {outcome.unwatched}"
    return BY_ANNOTATION if framework_of(case.implementation) == "jax" else NO_COLLECTIVE


def _complaint(result: CaseResult) -> str:
    failed = [f"{check.check}: {check.detail}" for check in result.checks if check.verdict == "fail"]
    return result.reason or next(iter(failed), f"the verdict is {result.verdict}")


def _spoken(case: Case) -> str:
    return f"{case.contract} on {case.mesh}"
