"""Fingerprints: what tells blocks of as many elements apart before any of them is compared element by element."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from conformance.diagnosis.inside.blocks import CLOSE


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """Of each block, which may be filled up with NaN: one projection, and its largest number.

    marks    NaN where a block is filled up: what is held there may be any number
    places   where the largest magnitude stands, in row-major order
    numbers  what stands there; NaN where a block is nothing but filled up
    slack    how far the numbers of each block may be off by rounding
    """

    marks: np.ndarray
    places: np.ndarray
    numbers: np.ndarray
    slack: np.ndarray

    @classmethod
    def of(cls, blocks: Iterable[np.ndarray], largest: Iterable[float]) -> Fingerprints:
        """`largest` is the largest magnitude in the whole value of each block; all have as many elements."""
        marks, places, numbers = [], [], []
        for block in blocks:
            flat = block.ravel()
            place = int(np.abs(np.nan_to_num(flat)).argmax())
            marks.append(mark(flat))
            places.append(place)
            numbers.append(flat[place])
        slack = CLOSE * np.array(list(largest), dtype=float)
        return cls(marks=np.array(marks), places=np.array(places, dtype=int), numbers=np.array(numbers), slack=slack)

    def like(self, held: np.ndarray) -> list[int]:
        """The places in the list of the blocks that `held` may be, in their order."""
        flat = held.ravel()
        near = np.abs(self.marks - mark(flat)) <= blur(flat)
        may = np.isnan(self.marks) & ~(np.abs(self.numbers - flat[self.places]) > self.slack)
        alike: list[int] = np.flatnonzero(near | may).tolist()
        return alike


def mark(block: np.ndarray) -> float:
    """One projection of a block, the same for all blocks of as many elements."""
    return float(block.ravel() @ _weights(block.size))


def blur(block: np.ndarray) -> float:
    """How far the marks of two blocks may lie apart that differ by rounding alone."""
    return CLOSE * 100 * max(float(np.abs(block).sum()), 1e-300)


@lru_cache(maxsize=256)
def _weights(size: int) -> np.ndarray:
    weights: np.ndarray = np.cos(np.arange(1.0, size + 1))
    return weights
