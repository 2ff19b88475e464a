"""How a program is evaluated in numpy: which way results are rounded, and in which order terms are added up.

Dim 0 of every array is a member: of an ensemble, or of a mesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Dims = Sequence[int]
NARROW = ("bfloat16", "float16")


class Arithmetic(Protocol):
    """How results are rounded, and in which order terms are added up."""

    def rounded(self, x: np.ndarray) -> np.ndarray:
        """Results of one operation."""

    def added(self, a: np.ndarray, b: np.ndarray, total: np.ndarray) -> np.ndarray:
        """a + b, of which `total` is the nearest number."""

    def orders(self, members: int, terms: int) -> np.ndarray:
        """(members, terms): for each member the order of the terms of a sum."""

    def total(self, x: np.ndarray, dims: Dims) -> np.ndarray:
        """The sum over some dims, which go."""

    def multiplied(self, x: np.ndarray, dims: Dims) -> np.ndarray:
        """The product over some dims, likewise."""

    def running(self, x: np.ndarray, dim: int, *, reverse: bool = False) -> np.ndarray:
        """Running sums along a dim."""

    def product(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The matrix products of (member, ..., m, k) and (member, ..., k, n)."""


class Ordinary:
    """As a device calculates: to the nearest number, terms in their order, and sums of narrow floats in float32."""

    def rounded(self, x: np.ndarray) -> np.ndarray:
        return x

    def added(self, a: np.ndarray, b: np.ndarray, total: np.ndarray) -> np.ndarray:
        return total

    def orders(self, members: int, terms: int) -> np.ndarray:
        return np.broadcast_to(np.arange(terms), (members, terms))

    def total(self, x: np.ndarray, dims: Dims) -> np.ndarray:
        value: np.ndarray = widened(x).sum(axis=tuple(dims))
        return value

    def multiplied(self, x: np.ndarray, dims: Dims) -> np.ndarray:
        value: np.ndarray = widened(x).prod(axis=tuple(dims))
        return value

    def running(self, x: np.ndarray, dim: int, *, reverse: bool = False) -> np.ndarray:
        sums = np.cumsum(np.flip(x, dim) if reverse else x, axis=dim, dtype=widened(x[:0]).dtype)
        return np.flip(sums, dim) if reverse else sums

    def product(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        value: np.ndarray = np.matmul(widened(a), widened(b))
        return value


def widened(x: Any) -> Any:
    """Narrow floats as float32; any other as it is."""
    return x.astype(np.float32) if x.dtype.name in NARROW else x
