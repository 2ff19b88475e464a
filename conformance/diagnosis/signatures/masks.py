"""Signatures of masks: one that is drawn otherwise than the seed of its row says, and one that hides nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.contract.contract import Arrays
from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.records.results import Cause


def another_mask(suspect: DivergedTensor) -> Iterator[Cause]:
    """Zeros and ones, elsewhere than they should be: drawn from another key, or those of another row."""
    if not suspect.tensor.startswith("masks/") or not np.isin(suspect.value, (0, 1)).all():
        return
    rows = len(suspect.value)
    wrong = int((suspect.value != suspect.expected).reshape(rows, -1).any(axis=1).sum())
    if wrong:
        where = "in every row" if wrong == rows else f"in {wrong} of {rows} rows"
        basis = "it holds zeros and ones alone, elsewhere than the reference's"
        yield Cause(cause=f"another mask was drawn, {where}", axis=None, confidence=0.9, basis=basis)


def unhidden(suspect: DivergedTensor) -> Iterator[Cause]:
    """Zero is meant wherever an array of zeros and ones of the batch is zero; there, and nowhere else, it is wrong."""
    off = np.abs(suspect.value - suspect.expected) > suspect.unexplained if _whole(suspect) else np.zeros(0, bool)
    for key, mask in _batch(suspect).items() if off.any() else ():
        binary = mask.ndim > 0 and mask.shape == off.shape[: mask.ndim] and np.isin(mask, (0, 1)).all()
        shown = off.reshape(*mask.shape, -1).any(axis=-1) if binary else None
        if shown is not None and np.array_equal(shown, mask == 0) and not suspect.expected[mask == 0].any():
            basis = f"{int(shown.sum())} of {shown.size} elements are wrong, those for which '{key}' is 0"
            yield Cause(cause=f"what '{key}' hides counts all the same", axis=None, confidence=0.9, basis=basis)
            return


def _batch(suspect: DivergedTensor) -> Arrays:
    """What the step was given; nothing where the contract draws no batch."""
    batches = suspect.case_run.contract.batches(suspect.case_run.case.seed, suspect.step + 1)
    return batches[suspect.step] if suspect.step < len(batches) else {}


def _whole(suspect: DivergedTensor) -> bool:
    return suspect.tensor.startswith(("outputs/", "activations/")) and suspect.value.shape == suspect.expected.shape
