"""Signature of chance: a dropout mask that is not the one that the seed of its row says."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

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
