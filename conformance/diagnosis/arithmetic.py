"""Signature of precision, read from the program: a sum or a statistic in fewer bits than the policy keeps."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.arithmetic import GRADIENTS, REDUCTION
from conformance.checks.precision import too_narrow
from conformance.exhibit import Exhibit
from conformance.results import Cause

_CAUSES = {REDUCTION: "gradients reduced in {}", GRADIENTS: "gradients added up or kept in {}"}
SURE = 0.95


def computed_narrowly(exhibit: Exhibit) -> Iterator[Cause]:
    """Every kind of narrow arithmetic that the policy forbids, with the axis that is summed over."""
    for one in too_narrow(exhibit):
        cause = _CAUSES.get(one.role, "statistics computed in {}").format(one.dtype)
        yield Cause(cause=cause, axis=one.axes[0] if one.axes else None, confidence=SURE)
