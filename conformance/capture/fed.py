"""The check `batch`: every row of the recorded batch is read, and nothing but those."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.checks.check import Check
from conformance.contract.roles import role
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Observed
from conformance.evidence.gather import covered
from conformance.evidence.held import replicated_over
from conformance.records.results import Cause, CheckResult

SAME_ROWS = "ranks along the axis read the same rows"
OF_DATA = ("data", "fsdp")


class Batch(Check):
    """Its evidence is `Evidence.batch`: `step 1: tokens` -> the rows that each rank was given."""

    name = "batch"
    rule = "Every element of the batch that the recorded run has read reaches some rank, in every step."

    def applies(self, case_run: CaseRun) -> bool:
        return bool(case_run.evidence.batch)

    def judge(self, case_run: CaseRun) -> CheckResult:
        lost = {what: seen for what, seen in case_run.evidence.batch.items() if not covered(seen).all()}
        first = next(iter(lost), None)
        return self.result(
            compared=len(case_run.evidence.batch),
            failures=[_sentence(what, seen) for what, seen in lost.items()],
            first=first,
            diagnosis=tuple(_causes(lost[first], case_run)) if first else (),
        )


def _sentence(what: str, seen: Observed) -> str:
    held = covered(seen)
    rows = np.flatnonzero(~held.reshape(len(held), -1).all(axis=1))
    where, _, key = what.partition(": ")
    return f"In {where} {len(rows)} of {len(held)} rows of the input '{key}' reach no rank, row {rows[0]} first."


def _causes(seen: Observed, case_run: CaseRun) -> Iterator[Cause]:
    """The axis along which all hold the same, of which the size is what is missing."""
    mesh, held = case_run.case.mesh, covered(seen)
    missing = held.size / held.sum() if held.any() else 0.0
    same = [axis for axis in mesh.axes if mesh.size(axis) == missing and replicated_over(seen, axis, mesh)]
    likely = [axis for axis in same if role(axis, case_run.contract.roles) in OF_DATA] or same
    for axis in likely[:1]:
        basis = f"the {mesh.size(axis)} ranks along {axis} were given the same rows"
        sure = 0.9 if len(likely) == 1 else 0.5
        yield Cause(cause=SAME_ROWS, axis=axis, confidence=0.95, axis_confidence=sure, basis=basis)
