"""Batches of other values, one key at a time: what a loss must not stay the same for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.contract.contract import Arrays

DRAWS = 2  # of whole numbers: the first may leave a sum of them as it was


def altered(batch: Arrays) -> Iterator[tuple[str, Arrays]]:
    """(key, the batch with other values of that key), real inputs first.

    Law: values that are not real (ids, labels, masks) are drawn from those that are there, since others may be refused;
    a key of one value alone has no other.
    """
    real = real_inputs(batch)
    for key in (*real, *(key for key in batch if key not in real)):
        for value in _reals(batch[key]) if key in real else _discrete(batch[key]):
            if not np.array_equal(value, batch[key]):
                yield key, batch | {key: value.astype(batch[key].dtype)}


def real_inputs(batch: Arrays) -> list[str]:
    """Keys whose values are real inputs: not integers, not masks (whose weights are exact)."""
    return [
        key
        for key, value in batch.items()
        if np.issubdtype(value.dtype, np.floating) and key != "mask" and not np.isin(value, (0, 1)).all()
    ]


def _reals(value: np.ndarray) -> Iterator[np.ndarray]:
    """Every number of its own factor and shift, so that no mean, difference or norm stays."""
    rng = np.random.default_rng(0)
    yield value * rng.uniform(0.5, 1.5, value.shape) + rng.uniform(size=value.shape)


def _discrete(value: np.ndarray) -> Iterator[np.ndarray]:
    """In another order, drawn anew, and, where there are but two values, each in place of the other."""
    rng, values = np.random.default_rng(0), np.unique(value)
    yield np.roll(value.reshape(-1), 1).reshape(value.shape)
    for _ in range(DRAWS):
        yield rng.choice(values, size=value.shape)
    if len(values) == 2:
        yield np.where(value == values[0], values[1], values[0])


def changed(value: np.ndarray) -> np.ndarray:
    """Another valid array: moved on by one along every dim; where that changes nothing, masks or signs are flipped.

    Along the first dim the quarter of the rows with the largest sums stands in place of all: a sum or a mean over the
    rows is the same in any order, and one row of thousands is nothing to it in a narrow dtype. Along the others what
    leaves at the end comes in at the front.
    """
    moved, dims = value, [dim for dim, size in enumerate(value.shape) if size > 1]
    for dim in dims[1:]:
        moved = np.roll(moved, 1, axis=dim)
    if dims:
        moved = np.take(moved, _largest(np.moveaxis(moved, dims[0], 0)), axis=dims[0])
    if not np.array_equal(moved, value):
        return moved
    return 1 - value if np.isin(value, (0, 1)).all() else -value


def _largest(rows: np.ndarray) -> np.ndarray:
    """For each row, which of the quarter with the largest sums stands in its place."""
    order = np.argsort(rows.reshape(len(rows), -1).sum(axis=1), kind="stable")
    return np.resize(np.sort(order[-max(1, len(rows) // 4) :]), len(rows))
