"""Signatures of precision, read from the program: it computes in fewer bits than the policy or the reference."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.checks.lower_precision import explained
from conformance.checks.precision import too_narrow
from conformance.evidence.arithmetic import GRADIENTS, REDUCTION
from conformance.evidence.comparison import CaseRun
from conformance.records.results import Cause

_CAUSES = {REDUCTION: "gradients reduced in {}", GRADIENTS: "gradients added up or kept in {}"}
SURE = 0.95


def computed_narrowly(case_run: CaseRun) -> Iterator[Cause]:
    """Every kind of narrow arithmetic that the policy forbids, with the axis that is summed over."""
    for operation in too_narrow(case_run):
        cause = _CAUSES.get(operation.role, "statistics computed in {}").format(operation.dtype)
        yield Cause(cause=cause, axis=operation.axes[0] if operation.axes else None, confidence=SURE)


def computed_in(case_run: CaseRun) -> Iterator[Cause]:
    """In float64: the first operation that rounds to fewer bits, where such rounding explains all that differs."""
    for rounding in explained(case_run)[:1]:
        place = f" at {rounding.place}" if rounding.place else ""
        yield Cause(cause=f"computed in {rounding.dtype}: {rounding.operation}{place}", axis=None, confidence=SURE)
