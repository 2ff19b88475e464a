"""`communication`: the traced step communicates what the implementation declares, per phase, kind and mesh axis."""

from __future__ import annotations

from collections.abc import Iterable

from conformance.checks.check import TRACE, Check
from conformance.contract.implementation import CollectiveKind, Phase, Traffic
from conformance.evidence.comparison import CaseRun
from conformance.records.results import CheckResult, Worst

Key = tuple[Phase, CollectiveKind, tuple[str, ...]]
Counts = dict[Key, tuple[int, int]]  # calls and bytes


class Communication(Check):
    name = "communication"
    needs = frozenset({TRACE})
    rule = (
        "Collectives and payload bytes per device, forward, backward and update apart, per kind and mesh axis, as "
        "traced from the step that ran, equal what the implementation declares."
    )

    def applies(self, case_run: CaseRun) -> bool:
        evidence = case_run.evidence
        several = case_run.case.mesh.devices > 1
        return several or bool(evidence.traffic or evidence.declarations.traffic or evidence.unwatched)

    def judge(self, case_run: CaseRun) -> CheckResult:
        traced, declared = case_run.evidence.traffic, case_run.evidence.declarations.traffic
        unknown = _unknown(case_run)
        if declared is None:
            return self.unsupported(f"The implementation does not declare what it communicates. {unknown}".rstrip())
        if traced is None:
            return self.unsupported(unknown)
        said, seen = _by_key(declared), _by_key(traced)
        differing = [key for key in _ordered({*said, *seen}) if said.get(key) != seen.get(key)]
        return self.result(
            compared=len({*said, *seen}) or 1,
            failures=[_sentence(key, said, seen) for key in differing],
            worst=_worst(differing, said, seen),
            first=_spoken(differing[0]) if differing else None,
        )


def _unknown(case_run: CaseRun) -> str:
    """Why it is not known what the step communicates; empty where it is."""
    if case_run.evidence.unwatched:
        return f"The step was not watched, because {case_run.evidence.unwatched}."
    partitioned = "The partitioner chooses the collectives; they are not in the traced program."
    return partitioned if case_run.evidence.traffic is None else ""


def differing_axes(case_run: CaseRun) -> list[tuple[Key, int, int]]:
    """Where declaration and trace differ: key, calls declared, calls traced; forward first."""
    if case_run.evidence.traffic is None or case_run.evidence.declarations.traffic is None:
        return []
    declared, traced = _by_key(case_run.evidence.declarations.traffic), _by_key(case_run.evidence.traffic)
    keys = [key for key in _ordered({*declared, *traced}) if declared.get(key) != traced.get(key)]
    return [(key, declared.get(key, (0, 0))[0], traced.get(key, (0, 0))[0]) for key in keys]


def _by_key(traffic: Iterable[Traffic]) -> Counts:
    counts: Counts = {}
    for collective in traffic:
        key = (collective.phase, collective.kind, collective.axes)
        calls, size = counts.get(key, (0, 0))
        counts[key] = (calls + collective.calls, size + collective.bytes)
    return {key: counted for key, counted in counts.items() if counted != (0, 0)}


def _ordered(keys: set[Key]) -> list[Key]:
    phases = ("forward", "backward", "update")
    return sorted(keys, key=lambda key: (phases.index(key[0]), key[1], key[2]))


def _spoken(key: Key) -> str:
    return f"{key[0]} {key[1]} over {'+'.join(key[2])}"


def _sentence(key: Key, declared: Counts, traced: Counts) -> str:
    said, seen = declared.get(key, (0, 0)), traced.get(key, (0, 0))
    return f"{_spoken(key)}: declared {said[0]} calls of {said[1]} bytes, traced {seen[0]} calls of {seen[1]} bytes."


def _worst(differing: list[Key], declared: Counts, traced: Counts) -> Worst | None:
    if not differing:
        return None
    key = max(differing, key=lambda k: abs(declared.get(k, (0, 0))[1] - traced.get(k, (0, 0))[1]))
    said, seen = declared.get(key, (0, 0))[1], traced.get(key, (0, 0))[1]
    return Worst(tensor=_spoken(key), error=float(abs(said - seen)), bound=0.0)
