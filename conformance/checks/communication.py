"""`communication`: the traced step communicates what the implementation declares, per phase, kind, axes and dtype."""

from __future__ import annotations

from dataclasses import replace

from conformance.checks.check import TRACE, Check
from conformance.checks.differences import NONE, Difference, Key, amounts, differences, ordered
from conformance.evidence.comparison import CaseRun
from conformance.records.results import CheckResult, Worst

_SHOWN = 5  # findings in one detail


class Communication(Check):
    name = "communication"
    needs = frozenset({TRACE})
    rule = (
        "Collectives and payload bytes per device, forward, backward and update apart, per kind, mesh axis and dtype, "
        "as traced from the step that ran, equal what the implementation declares, or stay within it where it declares "
        "an upper bound."
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
        said, seen = amounts(declared, traced)
        found = differences(declared, traced)
        return self.result(
            compared=len({*said, *seen}) or 1,
            failures=[_together(found)] if found else [],
            worst=_worst(found),
            first=str(found[0].key) if found else None,
        )


def _unknown(case_run: CaseRun) -> str:
    """Why it is not known what the step communicates; empty where it is."""
    if case_run.evidence.unwatched:
        return f"The step was not watched, because {case_run.evidence.unwatched}."
    partitioned = "The partitioner chooses the collectives; they are not in the traced program."
    return partitioned if case_run.evidence.traffic is None else ""


def differing_axes(case_run: CaseRun) -> list[tuple[Key, int, int]]:
    """Where declaration and trace differ, whatever the dtypes: key, calls declared, calls traced; forward first."""
    traced, declared = case_run.evidence.traffic, case_run.evidence.declarations.traffic
    if traced is None or declared is None:
        return []
    said, seen = amounts([replace(each, dtype=None) for each in declared], traced)
    keys = [key for key in ordered({*said, *seen}) if not said.get(key, NONE).allows(seen.get(key, NONE))]
    return [(key, said.get(key, NONE).nearest(seen.get(key, NONE).calls), seen.get(key, NONE).calls) for key in keys]


def _together(found: tuple[Difference, ...]) -> str:
    more = f" And {len(found) - _SHOWN} more." if len(found) > _SHOWN else ""
    return " ".join(difference.sentence for difference in found[:_SHOWN]) + more


def _worst(found: tuple[Difference, ...]) -> Worst | None:
    if not found:
        return None
    largest = max(found, key=lambda difference: difference.beyond)
    return Worst(tensor=str(largest.key), error=float(largest.beyond), bound=0.0)
