"""Rows in another order: vectors along the last dim that are all rows of one value of one device.

Experts get their tokens in an order of their own, and a buffer has rows of zeros where no token came. Such a value
shows nothing wrong, nor that its order is right: the search goes on behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from conformance.diagnosis.inside.blocks import CLOSE, is_trivial, whole
from conformance.evidence.intermediates import Intermediate

FEWEST = 3  # elements of a row: fewer are the same by chance, unless there are many rows
MANY = 16  # rows, such as the statistics of many rows
Owners = tuple[Intermediate, ...]


def of_rows(value: Intermediate, candidates: Sequence[Owners]) -> Owners:
    """The values of one device that have the rows, but for rows of zeros, of all ranks; none where some has others.

    candidates   values that may have the rows of a rank together
    """
    owners: dict[int, Intermediate] = {}
    for block in value.values.values():
        if block.ndim < 2 or (block.shape[-1] < FEWEST and len(block.reshape(-1, block.shape[-1])) < MANY):
            return ()
        rows = block.reshape(-1, block.shape[-1])
        rows = rows[rows.any(axis=-1)]
        group = next((group for group in candidates if _owned(group, rows)), ()) if len(rows) else ()
        if len(rows) and (not group or is_trivial(rows)):
            return ()
        owners.update({owner.number: owner for owner in group})
    return tuple(owners.values())


def _owned(owners: Iterable[Intermediate], rows: np.ndarray) -> bool:
    """Whether each row is one of theirs together."""
    length, values = rows.shape[-1], [whole(owner) for owner in owners]
    wanted = [value.reshape(-1, length) for value in values if value.ndim > 1 and value.shape[-1] == length]
    return bool(wanted) and have_all(np.concatenate(wanted), rows)


def have_all(owner: np.ndarray, rows: np.ndarray) -> bool:
    """Whether each row is one along the last dim of `owner`, but for rounding: that whose projection is nearest."""
    length = rows.shape[-1]
    if owner.ndim < 2 or owner.shape[-1] != length or not owner.size:
        return False
    every = owner.reshape(-1, length)
    if not np.isfinite(every).all() or not np.isfinite(rows).all():
        return False
    direction = np.random.default_rng(0).normal(size=length)
    order = np.argsort(every @ direction)
    marks, sought = (every @ direction)[order], rows @ direction
    after = np.clip(np.searchsorted(marks, sought), 0, len(marks) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.where(np.abs(marks[before] - sought) < np.abs(marks[after] - sought), before, after)
    return float(np.abs(every[order[nearest]] - rows).max()) <= CLOSE * float(np.abs(every).max())
