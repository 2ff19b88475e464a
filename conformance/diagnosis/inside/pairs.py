"""Rows that are multiplied with other rows than on one device, as query heads with the key heads of another group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from conformance.diagnosis.inside.blocks import CLOSE, whole
from conformance.diagnosis.inside.compared import Compared, spoken
from conformance.diagnosis.inside.kinds import PRODUCTS
from conformance.diagnosis.inside.rows import have_all
from conformance.diagnosis.inside.sureness import FOUND
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause

MOST_PAIRS = 4_000_000  # of rows that are multiplied to look for a number


def of_pairs(compared: Compared, value: Intermediate) -> Iterator[Cause]:
    """All rows of both operands are right; numbers of the product are none that one device makes of such rows."""
    if value.operation not in PRODUCTS or len(value.sources) != 2:
        return
    operands = [compared.values[number] for number in value.sources]
    for rank, made in value.values.items():
        rows = [_turned(operand.values[rank], made) for operand in operands]
        theirs = _product(compared, rows) if all(len(each) for each in rows) else None
        others = 0 if theirs is None else _others(made, rows, whole(theirs))
        if theirs is not None and others:
            words = "right rows are multiplied with other rows than on one device"
            said = f"{words}: {spoken(value)}, of what {spoken(operands[0])} and {spoken(operands[1])} make"
            basis = f"{others} of {made.size} numbers that rank {rank} makes are products of two rows that"
            basis += f" {spoken(theirs)} is given on one device too, which does not multiply these two"
            yield Cause(cause=said, axis=None, confidence=FOUND, basis=basis)
            return


def _turned(operand: np.ndarray, made: np.ndarray) -> list[np.ndarray]:
    """The vectors that may be summed over, (row, length): those along the last dim, and along the one before."""
    if operand.ndim < 2 or not made.size:
        return []
    ways = (operand, operand.swapaxes(-1, -2))
    return [way.reshape(-1, way.shape[-1]) for way in ways if way.shape[-1] > 1]


def _product(compared: Compared, rows: list[list[np.ndarray]]) -> Intermediate | None:
    """What one device makes of values that have all rows of both operands."""
    for value in compared.of_twin:
        if value.operation in PRODUCTS and len(value.sources) == 2:
            given = [compared.of_number.get(number) for number in value.sources]
            for first, second in (given, given[::-1]):
                if first is not None and second is not None and _has(first, rows[0]) and _has(second, rows[1]):
                    return value
    return None


def _has(value: Intermediate, ways: list[np.ndarray]) -> bool:
    held = whole(value)
    turned = [held, held.swapaxes(-1, -2)] if held.ndim > 1 else [held]
    return any(have_all(each, rows) for each in turned for rows in ways)


def _others(made: np.ndarray, rows: Sequence[Sequence[np.ndarray]], theirs: np.ndarray) -> int:
    """How many are products of rows of both that one device does not make; 0 where some are no products of rows."""
    numbers = made.ravel()
    wanted = ~_among(numbers, theirs.ravel())
    if not wanted.any():
        return 0
    for one, other in ((a, b) for a in rows[0] for b in rows[1] if a.shape[-1] == b.shape[-1]):
        if len(one) * len(other) <= MOST_PAIRS and _among(numbers, (one @ other.T).ravel()).all():
            return int(wanted.sum())
    return 0


def _among(numbers: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which numbers are among others, but for rounding."""
    ordered = np.sort(others)
    after = np.clip(np.searchsorted(ordered, numbers), 0, len(ordered) - 1)
    nearest = np.minimum(np.abs(ordered[after] - numbers), np.abs(ordered[np.maximum(after - 1, 0)] - numbers))
    return np.asarray(nearest <= CLOSE * np.abs(ordered).max(initial=0.0))
