"""Signatures of time and precision: an older value, or a narrower one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.diagnosis.suspect import DivergedTensor
from conformance.evidence.tolerance import EPSILON, bounded_as
from conformance.records.results import Cause


def stale(suspect: DivergedTensor) -> Iterator[Cause]:
    """The value of the step before: a parameter gathered too early, an update not taken over."""
    if suspect.step <= 0:
        if suspect.tensor.startswith("updates/") and not suspect.value.any():
            yield Cause(cause="never updated", axis=None, confidence=0.9)
        return
    before = suspect.case_run.reference.oracle[suspect.step - 1].get(suspect.tensor)
    if before is not None and suspect.explains(suspect.value, before):
        yield Cause(cause="stale by one step", axis=None, confidence=0.95)


def late(suspect: DivergedTensor) -> Iterator[Cause]:
    """Everything in the first step is right, what it leaves behind too: the fault needs a step before it."""
    case_run = suspect.case_run
    first = (one for one in case_run.comparisons if one.step == 0)
    beyond = not suspect.comparison.excess.ratio <= case_run.bound
    if suspect.step > 0 and beyond and all(one.excess.ratio <= case_run.bound for one in first):
        yield Cause(cause="right in step 1, wrong afterwards: stale or lost state", axis=None, confidence=0.75)


def narrower(suspect: DivergedTensor) -> Iterator[Cause]:
    """The error is what rounding to a narrower dtype leaves: of its size, in most elements, and without direction."""
    size = float(np.abs(suspect.expected).max(initial=0.0))
    error = suspect.value - suspect.expected
    if not size or not np.isfinite(error).all() or error.size < 32 or np.count_nonzero(error) < error.size / 2:
        return
    if abs(float(np.corrcoef(error.ravel(), suspect.expected.ravel())[0, 1])) > 0.3:
        return
    for dtype in ("bfloat16", "float32"):
        epsilon = EPSILON[dtype]
        if (
            epsilon > 16 * EPSILON[bounded_as(suspect.case_run.precision)]
            and epsilon / 64 <= np.abs(error).max() / size <= 2 * epsilon
        ):
            yield Cause(cause=f"computed or reduced in {dtype}", axis=None, confidence=0.5)


def not_finite(suspect: DivergedTensor) -> Iterator[Cause]:
    """NaN or infinity."""
    if not np.isfinite(suspect.value).all():
        yield Cause(cause="not finite: overflow, or memory never written", axis=None, confidence=0.6)
