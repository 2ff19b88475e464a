"""`replicas`: copies that must be equal are equal bit for bit, on every rank, after every step."""

from __future__ import annotations

from typing import Any

from conformance.checks.check import LATER_STEPS, Check
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Observations, Observed
from conformance.evidence.gather import copies, disagreements
from conformance.records.results import CheckResult


class Replicas(Check):
    name = "replicas"
    needs = frozenset({LATER_STEPS})
    rule = (
        "Wherever several ranks hold the same element of a tensor (parameters, gradients, optimizer state, loss, "
        "activations), they hold the same bits, at the start and after every step."
    )

    def applies(self, case_run: CaseRun) -> bool:
        """Where everything is divided to the last, nothing lies on two ranks."""
        several = case_run.case.mesh.devices > 1
        return several and any(_owes_copies(each) for _, seen in _moments(case_run) for each in seen.values())

    def judge(self, case_run: CaseRun) -> CheckResult:
        compared, first = 0, None
        failures: list[str] = []
        ranks: tuple[int, ...] = ()
        for moment, observations in _moments(case_run):
            for name, observed in in_flow(case_run, observations):
                compared += copies(observed)
                for block, other in disagreements(observed):
                    label = f"{moment}: {name}"
                    failures.append(f"{label} differs between rank {block.ranks[0]} and rank {other.ranks[0]}.")
                    if first is None:
                        first, ranks = label, (block.ranks[0], other.ranks[0])
        return self.result(compared=compared, failures=failures, first=first, ranks=ranks)


def _owes_copies(observed: Observed) -> bool:
    """Whether some element lies on several ranks, or is owed by a rank that hands over nothing."""
    holders = {rank for block in observed.blocks for rank in block.ranks}
    return bool(copies(observed)) or not holders.issuperset(observed.owed_by)


def _moments(case_run: CaseRun) -> list[tuple[str, Observations]]:
    return [("start", case_run.evidence.initial)] + [
        (f"step {i + 1}", step) for i, step in enumerate(case_run.evidence.steps)
    ]


def in_flow(case_run: CaseRun, observations: Observations) -> list[Any]:
    """Data-flow order where the oracle knows the tensor, the candidate's own order after that."""
    order = {name: i for i, name in enumerate(case_run.reference.oracle[0])} if case_run.reference.oracle else {}
    return sorted(observations.items(), key=lambda item: order.get(item[0], len(order)))
