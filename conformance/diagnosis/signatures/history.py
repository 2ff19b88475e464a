"""Signatures of time and precision: an older value, or a narrower one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.diagnosis.signatures.scale import is_rate
from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.evidence.gather import covered
from conformance.evidence.tolerance import EPSILON, bounded_as
from conformance.records.results import Cause


def never_stored(suspect: DivergedTensor) -> Iterator[Cause]:
    """What an optimizer keeps is zero: it is made anew in every step, or lost on the way."""
    if suspect.tensor.startswith("optimizer/") and not suspect.value.any() and suspect.expected.any():
        basis = "it is zero everywhere, on the lowest ranks that hold it"
        yield Cause(cause="the optimizer's state is never stored: it is zero", axis=None, confidence=0.9, basis=basis)


def stale(suspect: DivergedTensor) -> Iterator[Cause]:
    """The value of the step before: a parameter gathered too early, an update not taken over."""
    if suspect.step <= 0:
        if suspect.tensor.startswith("updates/") and not suspect.value.any() and suspect.expected.any():
            yield Cause(cause="never updated", axis=None, confidence=0.9, basis="it has not changed since the start")
        return
    before = suspect.case_run.reference.oracle[suspect.step - 1].get(suspect.tensor)
    if before is not None and suspect.explains(suspect.value, before):
        basis = "it equals what the reference had one step before"
        yield Cause(cause="stale by one step", axis=None, confidence=0.95, basis=basis)


MANY = 1000  # roundings, one after the other
TF32 = 2.0**-10  # one unit of TensorFloat-32, in which NVIDIA's chips multiply float32 unless told otherwise


def late(suspect: DivergedTensor) -> Iterator[Cause]:
    """Everything in the first step is right, what it leaves behind too: the fault needs a step before it.

    An update that is wrong though its gradient and its slots are right is not made of a state that is stale or lost.
    """
    case_run = suspect.case_run
    first = (comparison for comparison in case_run.comparisons if comparison.step == 0)
    beyond = not suspect.comparison.excess.ratio <= case_run.bound
    if suspect.step > 0 and beyond and all(comparison.excess.ratio <= case_run.bound for comparison in first):
        basis = "all that step 1 computes and leaves behind is right"
        words = "right in step 1, wrong afterwards"
        words += "" if is_rate(suspect) else ": stale or lost state, or what only a later step has"
        yield Cause(cause=words, axis=None, confidence=0.87, basis=basis, place=True)


def narrower(suspect: DivergedTensor) -> Iterator[Cause]:
    """The error is what rounding to a narrower dtype leaves: no more than half a unit of every element, in most.

    Not where the program shows that it computes in no such dtype, nor where the error is large beside elements that
    are small: what one wrong factor or one lost part leaves may have that size, but not that spread.
    """
    size = float(np.abs(suspect.expected).max(initial=0.0))
    error = suspect.value - suspect.expected
    if not size or not np.isfinite(error).all() or error.size < 32 or np.count_nonzero(error) < error.size / 2:
        return
    if not np.ptp(error) or not np.ptp(suspect.expected):
        return  # the same everywhere, which rounding is not
    if abs(float(np.corrcoef(error.ravel(), suspect.expected.ravel())[0, 1])) > 0.3:
        return
    own = EPSILON[bounded_as(suspect.case_run.precision)]
    if bounded_as(suspect.case_run.precision) == "float32" and suspect.case_run.case.devices != "emulated":
        relative = _relative(suspect, TF32)
        if _is_spread(relative, TF32):
            words, basis = "products in TensorFloat-32", "its errors are spread as those of rounding to 11 bits are"
            yield Cause(cause=words, axis=None, confidence=0.6, basis=basis)
            return
    for dtype in ("bfloat16", "float32"):
        basis = _rounding(suspect, dtype) if EPSILON[dtype] > 16 * own else ""
        if basis and not _seen_not_to(suspect, dtype):
            yield Cause(cause=f"computed or reduced in {dtype}", axis=None, confidence=0.6, basis=basis)


def _rounding(suspect: DivergedTensor, dtype: str) -> str:
    """Why it looks like rounding to the dtype; empty where it does not.

    Either the values are ones that the dtype has, and no farther off than many roundings in turn leave them, or nearly
    all are within one rounding of the expected ones.
    """
    epsilon, value = EPSILON[dtype], suspect.value
    relative = _relative(suspect, epsilon)
    half = float(np.quantile(relative, 0.5))
    if half <= MANY * epsilon and np.array_equal(value.astype(np.dtype(dtype)).astype(np.float64), value):
        return f"its values are numbers that {dtype} has"
    return f"its errors are spread as those of rounding to {dtype} are" if _is_spread(relative, epsilon) else ""


def _relative(suspect: DivergedTensor, epsilon: float) -> np.ndarray:
    """The error of every element, relative to it; what is nearly zero beside the largest one counts as a 64th unit."""
    size = np.abs(suspect.expected)
    floor = float(size.max(initial=0.0)) * epsilon / 64
    return np.asarray(np.abs(suspect.value - suspect.expected) / np.maximum(size, floor))


def _is_spread(relative: np.ndarray, epsilon: float) -> bool:
    """Whether nearly all are within one rounding, and half of them are no smaller than a 64th of one."""
    return bool(np.quantile(relative, 0.9) <= epsilon and np.quantile(relative, 0.5) >= epsilon / 64)


def _seen_not_to(suspect: DivergedTensor, dtype: str) -> bool:
    """In float64 a program that was watched names all that rounds to fewer bits."""
    arithmetic = suspect.case_run.evidence.arithmetic
    return suspect.case_run.case.dtype == "float64" and arithmetic is not None and not arithmetic


def not_finite(suspect: DivergedTensor) -> Iterator[Cause]:
    """NaN or infinity, where a number should be and some rank hands one over."""
    wrong = ~np.isfinite(suspect.value) & np.isfinite(suspect.expected) & covered(suspect.comparison.observed)
    if wrong.any():
        basis = f"{int(wrong.sum())} of its {suspect.value.size} elements are not finite"
        words = "not finite: overflow, or memory never written"
        yield Cause(cause=words, axis=None, confidence=0.87, basis=basis, place=True)
