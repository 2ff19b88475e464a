"""`replicas`: copies that must be equal are equal bit for bit, on every rank, after every step."""

from __future__ import annotations

from conformance.checks.check import LATER_STEPS, Check
from conformance.evidence.comparison import Exhibit
from conformance.evidence.evidence import Observations
from conformance.evidence.gather import copies, disagreements
from conformance.records.results import CheckResult


class Replicas(Check):
    name = "replicas"
    needs = frozenset({LATER_STEPS})
    rule = (
        "Wherever several ranks hold the same element of a tensor (parameters, gradients, optimizer state, loss, "
        "activations), they hold the same bits, at the start and after every step."
    )

    def applies(self, exhibit: Exhibit) -> bool:
        return exhibit.case.mesh.devices > 1

    def judge(self, exhibit: Exhibit) -> CheckResult:
        compared, first = 0, None
        failures: list[str] = []
        ranks: tuple[int, ...] = ()
        for moment, observations in _moments(exhibit):
            for name, observed in in_flow(exhibit, observations):
                compared += copies(observed)
                for one, other in disagreements(observed):
                    label = f"{moment}: {name}"
                    failures.append(f"{label} differs between rank {one.ranks[0]} and rank {other.ranks[0]}.")
                    if first is None:
                        first, ranks = label, (one.ranks[0], other.ranks[0])
        return self.result(compared=compared, failures=failures, first=first, ranks=ranks)


def _moments(exhibit: Exhibit) -> list[tuple[str, Observations]]:
    return [("start", exhibit.evidence.initial)] + [
        (f"step {i + 1}", step) for i, step in enumerate(exhibit.evidence.steps)
    ]


def in_flow(exhibit: Exhibit, observations: Observations) -> list:
    """Data-flow order where the oracle knows the tensor, the candidate's own order after that."""
    order = {name: i for i, name in enumerate(exhibit.truth.oracle[0])} if exhibit.truth.oracle else {}
    return sorted(observations.items(), key=lambda item: order.get(item[0], len(order)))
