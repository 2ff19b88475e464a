"""Stochastic arithmetic: operations whose rounding errors and orders of summation are drawn at random.

A program evaluated several times in this arithmetic shows what rounding alone does to its results, and the error that
any one evaluation of it has (Vignes, A stochastic arithmetic for reliable scientific computation, 1993; Parker, Monte
Carlo arithmetic, 1997). Two things are random:

* a result that was rounded is rounded up or down: moved by one unit in the last place, or not; a sum of two numbers is
  moved to the other side of what it is exactly;
* the terms of a sum, and the contracted dim of a product, are permuted and added one after the other. That is the
  order of summation with the largest error, which grows as the square root of the number of terms (Higham and Mary,
  A new approach to probabilistic rounding error analysis, 2019); whoever sums pairwise or in chunks is nearer.

What is exact stays exact: a number whose last bits are zero (a count, a mask, a power of two) was not rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from conformance.trace.arithmetic import Dims

_DRAWN = 2**16 + 1
_ORDERS_KEPT = 2**20  # elements of the drawn orders of one length


@dataclass(frozen=True, kw_only=True)
class _Bits:
    """How the bits of a float are read: as which integers, and which of the last ones show that it was rounded."""

    integer: type[np.signedinteger]
    last: int


_BITS = {"float64": _Bits(integer=np.int64, last=2**20 - 1), "float32": _Bits(integer=np.int32, last=2**8 - 1)}


class Stochastic:
    """Arithmetic on several members of an ensemble at once: dim 0 of every array is the member.

    The same seed draws the same roundings and orders, other ones for every member. float64 and float32 are rounded;
    narrower floats and whole numbers are computed as they are.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, _DRAWN])
        self._moves = self._rng.choice(np.array([-1, 0, 0, 1], dtype=np.int8), _DRAWN)
        self._at = 0

    def rounded(self, x: np.ndarray) -> np.ndarray:
        """Results of one operation, each that was rounded moved by a unit in the last place: up, down, or not."""
        how = _BITS.get(x.real.dtype.name)
        if how is None or x.size == 0:
            return x
        bits = np.ascontiguousarray(x).reshape(-1).view(how.integer)
        moved = bits + ((bits & how.last) != 0) * self._drawn(bits.size)
        value: np.ndarray = moved.view(x.dtype).reshape(x.shape)
        return value

    def added(self, a: np.ndarray, b: np.ndarray, total: np.ndarray) -> np.ndarray:
        """a + b, of which `total` is the nearest number: where it is not exact, rounded up or down.

        What is lost is known exactly (Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B). A
        term far below the unit of the other one would be lost in every order of summation, and in every member alike.
        """
        how = _BITS.get(total.dtype.name)
        if how is None or total.size == 0:
            return total
        with np.errstate(invalid="ignore"):  # infinities lose nothing
            back = total - a
            lost = (a - (total - back)) + (b - back)
        away = ((lost > 0) == (total > 0)).astype(how.integer) * 2 - 1  # on the bits, up is away from zero
        inexact = (lost != 0) & np.isfinite(lost)
        moved = np.ascontiguousarray(total).view(how.integer) + away * inexact * np.abs(
            self._drawn(total.size)
        ).reshape(total.shape)
        value: np.ndarray = moved.view(total.dtype).reshape(total.shape)
        return value

    def _drawn(self, size: int) -> np.ndarray:
        if size > _DRAWN:
            return np.resize(np.roll(self._moves, self._rng.integers(_DRAWN)), size)
        if self._at + size > _DRAWN:
            self._at = int(self._rng.integers(_DRAWN - size + 1))
        self._at += size
        return self._moves[self._at - size : self._at]

    def orders(self, members: int, terms: int) -> np.ndarray:
        """(members, terms): for each member a permutation of the terms of a sum."""
        return self._rng.permuted(np.broadcast_to(np.arange(terms), (members, terms)), axis=1)

    def total(self, x: np.ndarray, dims: Dims) -> np.ndarray:
        """The sum over some dims (which go), one term after the other in a random order."""
        return self._reduced(np.add, x, dims)

    def multiplied(self, x: np.ndarray, dims: Dims) -> np.ndarray:
        """The product over some dims, likewise."""
        return self._reduced(np.multiply, x, dims)

    def _reduced(self, operation: np.ufunc, x: np.ndarray, dims: Dims) -> np.ndarray:
        kept = [dim for dim in range(1, x.ndim) if dim not in dims]
        terms = math.prod(x.shape[dim] for dim in dims)
        shape = tuple(x.shape[dim] for dim in (0, *kept))
        rows = x.transpose([*dims, 0, *kept]).reshape(terms, x.shape[0], math.prod(shape[1:]))
        if terms > 2:
            rows = rows[self.orders(x.shape[0], terms).T, np.arange(x.shape[0])]
        return _one_by_one(operation, rows).astype(x.dtype, copy=False).reshape(shape)

    def running(self, x: np.ndarray, dim: int, *, reverse: bool = False) -> np.ndarray:
        """Running sums along a dim: every partial sum is rounded up or down, and the next ones start from it."""
        x = np.flip(x, dim) if reverse else x
        sums = np.cumsum(x, axis=dim, dtype=x.dtype)
        sums = sums + np.cumsum(self.rounded(sums) - sums, axis=dim, dtype=x.dtype)
        return np.flip(sums, dim) if reverse else sums

    def product(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The matrix products of (member, ..., m, k) and (member, ..., k, n): terms rounded, and added in any order.

        Terms that share an element of the operand with fewer are rounded alike.
        """
        k = a.shape[-1]
        if k > 1:
            a, b = self._reordered(a, b)
            a, b = (self.rounded(a), b) if a.size < b.size else (a, self.rounded(b))
        if k > 2 and 1 in (a.shape[-2], b.shape[-1]):  # a library adds up these in several partial sums
            terms = np.moveaxis(a, -1, 0)[..., :, None] * np.moveaxis(b, -2, 0)[..., None, :]
            return _one_by_one(np.add, terms)
        return self.rounded(np.matmul(a, b))

    def _reordered(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The contracted dim of both operands in a random order."""
        members, k = a.shape[0], a.shape[-1]
        orders, between = self.orders(members, k), [1] * (a.ndim - 3)
        a = np.take_along_axis(a, orders.reshape(members, *between, 1, k), axis=-1)
        return a, np.take_along_axis(b, orders.reshape(members, *between, k, 1), axis=-2)


def _one_by_one(operation: np.ufunc, terms: np.ndarray) -> np.ndarray:
    """Terms along dim 0, one after the other; of a single column numpy would add up parts of it side by side."""
    single = len(terms) and terms[0].size == 1
    total: np.ndarray = operation.accumulate(terms, axis=0)[-1] if single else operation.reduce(terms, axis=0)
    return total
