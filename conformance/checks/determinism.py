"""`determinism`: the same layout twice gives the same bits."""

from __future__ import annotations

from conformance.checks.check import Check
from conformance.checks.replicas import _in_flow
from conformance.evidence import Observed
from conformance.exhibit import Exhibit
from conformance.results import CheckResult


class Determinism(Check):
    name = "determinism"
    rule = "The first step, run again from a second placement on the same mesh, gives the same bits on every rank."

    def applies(self, exhibit: Exhibit) -> bool:
        return exhibit.evidence.repeated is not None

    def judge(self, exhibit: Exhibit) -> CheckResult:
        again = exhibit.evidence.repeated or {}
        once = exhibit.evidence.steps[0]
        failures, first = [], None
        for name, observed in _in_flow(exhibit, {name: once[name] for name in again if name in once}):
            if not _same_bits(observed, again[name]):
                failures.append(f"{name} has other bits when the same step is run again.")
                first = first or f"step 1: {name}"
        return self.result(compared=len(again), failures=failures, first=first)


def _same_bits(one: Observed, other: Observed) -> bool:
    def content(observed: Observed) -> list:
        return sorted((block.ranks, block.value.shape, block.value.tobytes()) for block in observed.blocks)

    return content(one) == content(other)
