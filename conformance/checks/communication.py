"""`communication`: the traced step communicates what the implementation declares, per phase, kind, axes and dtype."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from conformance.checks.check import TRACE, Check
from conformance.checks.differences import NONE, Amount, Difference, Key, amounts, differences, ordered
from conformance.checks.upper_bound import Excess, excess
from conformance.contract.budget import Allowance
from conformance.evidence.comparison import CaseRun
from conformance.records.results import CheckResult, Worst

_SHOWN = 5  # findings in one detail
_NEITHER = "A program with collectives of its own is held to declared collectives, one without to an upper bound."


class Communication(Check):
    name = "communication"
    of_values = False
    needs = frozenset({TRACE})
    rule = (
        "Collectives and payload bytes per device, forward, backward and update apart, per kind, mesh axis and dtype, "
        "as traced from the step that ran, equal what the implementation declares, or stay within it where it declares "
        "an upper bound. Where a partitioner chooses them, what it sends over each set of axes, of each parameter and "
        "of all activations together, is no more than the declared upper bound, and nothing is rematerialized whole "
        "against its sharding."
    )

    def applies(self, case_run: CaseRun) -> bool:
        evidence = case_run.evidence
        several = case_run.case.mesh.devices > 1
        return several or bool(evidence.traffic or evidence.declarations.traffic or evidence.unwatched)

    def judge(self, case_run: CaseRun) -> CheckResult:
        traced, declared = case_run.evidence.traffic, case_run.evidence.declarations.traffic
        at_most, unknown = case_run.evidence.declarations.at_most, _unknown(case_run)
        if traced is None and at_most is not None and not unknown:
            return self._within(case_run, at_most)
        if declared is None and at_most is None:
            return self.unsupported(f"The implementation does not declare what it communicates. {unknown}".rstrip())
        if traced is None or declared is None:
            return self.unsupported(unknown or _NEITHER)
        said, seen = amounts(declared, traced)
        findings = differences(declared, traced)
        return self.result(
            compared=len({*said, *seen}) or 1,
            failures=[_together([difference.sentence for difference in findings])] if findings else [],
            worst=_worst(findings),
            first=str(findings[0].key) if findings else None,
        )

    def _within(self, case_run: CaseRun, at_most: Sequence[Allowance]) -> CheckResult:
        """The program behind the partitioner against an upper bound."""
        made = case_run.evidence.partitioned
        assert made is not None
        excesses = excess(made, at_most, case_run.case.mesh, case_run.contract.shapes)
        said = [f"The partitioner says: {line}" for line in made.rematerialized]
        sentences = [*(each.sentence for each in excesses), *said]
        largest = excesses[0] if excesses else None
        return self.result(
            compared=len(made.sent) or 1,
            failures=[_together(sentences)] if sentences else [],
            worst=Worst(tensor=_of(largest), error=largest.sent, bound=largest.allowed) if largest else None,
            first=_of(largest) if largest else None,
        )


def _of(each: Excess) -> str:
    return f"{each.tensor} over {'+'.join(each.axes)}"


def _unknown(case_run: CaseRun) -> str:
    """Why it is not known what the step communicates; empty where it is."""
    evidence = case_run.evidence
    if evidence.unwatched:
        return f"The step was not watched, because {evidence.unwatched}."
    if evidence.traffic is not None or evidence.partitioned is not None:
        return ""
    why = evidence.unseen.get("collectives", "")
    partitioned = "The partitioner chooses the collectives; they are not in the traced program"
    return f"{partitioned}, and {why}." if why else f"{partitioned}."


def differing_axes(case_run: CaseRun) -> list[tuple[Key, Amount, Amount]]:
    """Where declaration and trace differ, whatever the dtypes: key, declared, traced; forward first."""
    traced, declared = case_run.evidence.traffic, case_run.evidence.declarations.traffic
    if traced is None or declared is None:
        return []
    said, seen = amounts([replace(each, dtype=None) for each in declared], traced)
    pairs = ((key, said.get(key, NONE), seen.get(key, NONE)) for key in ordered({*said, *seen}))
    return [(key, said_of, seen_of) for key, said_of, seen_of in pairs if not said_of.allows(seen_of)]


def _together(sentences: Sequence[str]) -> str:
    more = f" And {len(sentences) - _SHOWN} more." if len(sentences) > _SHOWN else ""
    return " ".join(sentences[:_SHOWN]) + more


def _worst(findings: tuple[Difference, ...]) -> Worst | None:
    if not findings:
        return None
    largest = max(findings, key=lambda difference: difference.beyond)
    return Worst(tensor=str(largest.key), error=float(largest.beyond), bound=0.0)
