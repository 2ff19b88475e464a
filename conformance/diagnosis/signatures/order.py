"""Signatures of order: right values in the wrong place along a dim, or under another name."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.records.results import Cause

FEWEST = 3  # elements of a dim whose order means anything: two of them are exchanged by chance
BY_PARAMETER = ("gradients/", "updates/", "optimizer/", "parameters/", "buffers/", "masks/")  # that have no rows
MOST_WIDE = 1 << 14  # elements of a row
SHOWN = 8  # of the places that an order is described by


def rolled(suspect: DivergedTensor) -> Iterator[Cause]:
    """The tensor is the expected one, shifted by one along a dim."""
    for dim in range(suspect.expected.ndim):
        for shift in (1, -1):
            if suspect.expected.shape[dim] > 1 and suspect.explains(
                suspect.value, np.roll(suspect.expected, shift, dim)
            ):
                basis = f"what belongs to place i of dim {dim} lies at i {'+' if shift > 0 else '-'} 1"
                yield Cause(cause=f"shifted by {shift} along dim {dim}", axis=None, confidence=0.9, basis=basis)


def reordered(suspect: DivergedTensor) -> Iterator[Cause]:
    """Along a dim the elements are the expected ones in another order: tokens permuted, heads interleaved."""
    if not np.isfinite(suspect.value).all():
        return
    for dim in range(suspect.expected.ndim):
        order = _order(np.moveaxis(suspect.value, dim, 0), np.moveaxis(suspect.expected, dim, 0))
        if order is not None and suspect.explains(suspect.value, np.take(suspect.expected, order, axis=dim)):
            places = ", ".join(map(str, order[:SHOWN])) + (", ..." if len(order) > SHOWN else "")
            basis = f"dim {dim} holds what belongs to places {places}"
            yield Cause(cause=f"elements permuted along dim {dim}", axis=None, confidence=0.9, basis=basis)


def of_other_rows(suspect: DivergedTensor) -> Iterator[Cause]:
    """Every row that is wrong is the right one of another row: a message that was kept for the next one, say."""
    rows = len(suspect.expected) if suspect.expected.ndim > 1 else 0
    if rows < FEWEST or suspect.tensor.startswith(BY_PARAMETER) or not np.isfinite(suspect.value).all():
        return
    value, expected = (whole.reshape(rows, -1) for whole in (suspect.value, suspect.expected))
    if not FEWEST <= expected.shape[1] <= MOST_WIDE:
        return
    off = np.array([np.abs(expected - row).max(axis=1) for row in value])
    wrong = np.flatnonzero(np.diag(off) > suspect.unexplained)
    owners = off[wrong].argmin(axis=1)
    if len(wrong) and (off[wrong, owners] <= suspect.unexplained).all():
        parts = suspect.case_run.contract.recipe.microbatches
        whose = "stale, or of another microbatch" if parts > 1 else "those of other rows"
        places = ", ".join(f"{row} holds {owner}" for row, owner in list(zip(wrong, owners, strict=True))[:SHOWN])
        basis = f"every row that is wrong is right for another row: {places}{', ...' if len(wrong) > SHOWN else ''}"
        yield Cause(cause=f"rows are {whose}", axis=None, confidence=0.9, basis=basis)


def _order(value: np.ndarray, expected: np.ndarray) -> np.ndarray | None:
    """For each place along dim 0 whose expected slice may lie there, told by one projection; None for few places."""
    places = len(expected)
    if places < FEWEST or not expected.size:
        return None
    direction = np.random.default_rng(0).normal(size=expected[0].size)
    held, wanted = (whole.reshape(places, -1) @ direction for whole in (value, expected))
    order = np.empty(places, dtype=int)
    order[np.argsort(held, kind="stable")] = np.argsort(wanted, kind="stable")
    shift = np.roll(np.arange(places), 1)
    plain = (np.arange(places), shift, np.argsort(shift))
    return None if any(np.array_equal(order, known) for known in plain) else order


def exchanged(suspect: DivergedTensor) -> Iterator[Cause]:
    """The tensor is the expected one of another name: a buffer was read before it was written, or a name mistaken."""
    kind = suspect.tensor.partition("/")[0]
    for name, other in suspect.case_run.reference.oracle[max(suspect.step, 0)].items():
        if name != suspect.tensor and name.startswith(f"{kind}/") and suspect.explains(suspect.value, other):
            basis = f"it equals what the reference has for '{name}'"
            yield Cause(cause=f"holds what belongs to '{name}'", axis=None, confidence=0.95, basis=basis)
            return


def without_gradient(suspect: DivergedTensor) -> Iterator[Cause]:
    """A gradient that is zero everywhere: nothing flows back to it."""
    gradient = suspect.tensor.startswith(("gradients/", "input_gradients/"))
    if gradient and not suspect.value.any() and suspect.expected.any():
        basis = "it is zero everywhere, on the lowest ranks that hold it"
        yield Cause(cause="no gradient arrives: it is cut off", axis=None, confidence=0.87, basis=basis, place=True)
