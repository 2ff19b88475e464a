"""Blocks of whole values: how a mesh cuts them, and how one is known again by its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.evidence.intermediates import Intermediate

CLOSE = 1e-9  # relative to the largest element: float64 rounding of another order, and never another value
HIDDEN = 1e8  # a mask puts minus infinity, or a number of this size, where nothing may be seen
FILL = -17.25  # what is compared in its stead, so that it hides no difference of the other elements
Dims = tuple[tuple[str, int], ...]  # axis -> the dim that it divides
Blocks = Mapping[int, np.ndarray]  # rank -> what it holds
Combine = Callable[..., np.ndarray]
Numbers = TypeVar("Numbers", int, tuple[int, ...])


@dataclass(frozen=True, kw_only=True)
class Match:
    """`whole` is the number of the value on one device; over the axes of `partial` the blocks are partial sums.

    moved     every rank has the block of one that stands so many places further round a ring
    sections  a dim, and the sizes of its sections, each of which is divided by itself; none in a block
    canonical  it is in the order of one device, where the program keeps what has such dims in another one
    """

    whole: int
    dims: Dims
    partial: tuple[str, ...] = ()
    moved: bool = False
    sections: tuple[int, tuple[int, ...]] | None = None
    canonical: bool = False


def whole(value: Intermediate) -> np.ndarray:
    """What one device holds."""
    return next(iter(value.values.values()))


def filled(x: np.ndarray) -> np.ndarray:
    """With one moderate number for all that a mask hides; what is not a number stays."""
    if x.dtype.kind not in "fc" or not x.size or float(np.nan_to_num(np.abs(x), nan=0.0).max()) < HIDDEN:
        return x
    return np.where(np.abs(x) >= HIDDEN, FILL, x)


def is_trivial(x: np.ndarray) -> bool:
    """One number everywhere, or nothing but whole numbers: many values are that by chance."""
    if not x.size or not np.isfinite(x).all():
        return not x.size
    return bool(np.ptp(x) == 0 and x.size > 1) or bool((x == np.round(x)).all())


def cut(x: np.ndarray, dims: Dims, mesh: Mesh, where: Mapping[str, int]) -> np.ndarray:
    """The part at the coordinates `where`; outer axes first, as mesh axes nest. NaN fills last parts up."""
    number, place = [1] * x.ndim, [0] * x.ndim
    for axis, dim in dims:
        size = mesh.size(axis)
        number[dim], place[dim] = number[dim] * size, place[dim] * size + where[axis]
    lengths = [-(-size // parts) for size, parts in zip(x.shape, number, strict=True)]
    block = x[tuple(slice(i * length, (i + 1) * length) for i, length in zip(place, lengths, strict=True))]
    if block.shape == tuple(lengths):
        return block
    missing = [(0, length - size) for length, size in zip(lengths, block.shape, strict=True)]
    return np.pad(block, missing, constant_values=np.nan)


def lengthened(x: np.ndarray, sizes: Sequence[int]) -> Iterator[np.ndarray]:
    """With NaN at the end of all dims of one length that one of these sizes does not divide: filled up and not cut."""
    for size, length in {(size, length) for size in sizes for length in x.shape if length > size and length % size}:
        more = [(0, -n % size if n == length else 0) for n in x.shape]
        yield np.pad(x, more, constant_values=np.nan)


def parts(dims: Dims, dim: int, mesh: Mesh) -> int:
    """In how many parts a dim is cut."""
    number = 1
    for axis, divided in dims:
        number *= mesh.size(axis) if divided == dim else 1
    return number


def divisions(shape: tuple[int, ...], axes: Sequence[str], mesh: Mesh, uneven: bool = False) -> Iterator[Dims]:
    """Every way in which these axes can divide dims evenly; with `uneven`, so that the last part has something."""
    for chosen in product((None, *range(len(shape))), repeat=len(axes)):
        dims = tuple((axis, dim) for axis, dim in zip(axes, chosen, strict=True) if dim is not None)
        if all(_divides(size, parts(dims, dim, mesh), uneven) for dim, size in enumerate(shape)):
            yield dims


def _divides(size: int, number: int, uneven: bool) -> bool:
    return size % number == 0 or (uneven and -(-size // number) * (number - 1) < size)


def agree(held: Blocks, wanted: Callable[[int], np.ndarray], largest: float) -> bool:
    """Whether the blocks of all ranks hold the numbers that `wanted` gives, in row-major order, but for rounding.

    Anything may stand where NaN is wanted, but for blocks that are nothing else: they say nothing. A last part that is
    filled up there may be shorter here.
    """
    same = all(_equal(block.ravel(), wanted(rank).ravel(), CLOSE * largest) for rank, block in held.items())
    return same and not all(np.isnan(wanted(rank)).all() for rank in held)


def _equal(held: np.ndarray, wanted: np.ndarray, slack: float) -> bool:
    known = ~np.isnan(wanted)
    if held.size == wanted.size:
        held = held[known]
    return held.size == int(known.sum()) and float(np.abs(held - wanted[known]).max(initial=0.0)) <= slack


def on_all(value: Intermediate, mesh: Mesh) -> Blocks | None:
    """Its blocks, where every rank has one of the same shape, all are numbers, and the first is no trivial one."""
    held = {rank: filled(block) for rank, block in value.values.items()}
    alike = len(held) == mesh.devices and len({block.shape for block in held.values()}) == 1
    numbers = all(np.isfinite(block).all() for block in held.values())
    return None if not alike or not numbers or is_trivial(held[0]) else held


def along(axis: str, held: Mapping[int, Numbers], mesh: Mesh) -> list[Numbers] | None:
    """rank -> a number or several, as those of the places along an axis; None where ranks in one place differ."""
    by_place: dict[int, set[Numbers]] = {}
    for rank, number in held.items():
        by_place.setdefault(mesh.coordinates(rank)[axis], set()).add(number)
    alone = len(by_place) == mesh.size(axis) and all(len(numbers) == 1 for numbers in by_place.values())
    return [min(by_place[place]) for place in sorted(by_place)] if alone else None


def thinned(values: Blocks) -> Iterator[Blocks]:
    """Blocks in which every slice along a dim is repeated, with each of them once: heads of keys, say."""
    first = next(iter(values.values()), np.empty(0))
    for dim, size in enumerate(first.shape):
        for times in (times for times in range(size, 1, -1) if size % times == 0):
            once = {
                rank: np.take(block, range(0, size, times), axis=dim)
                for rank, block in values.items()
                if block.shape == first.shape
            }
            if len(once) == len(values) and all(
                np.array_equal(np.repeat(once[rank], times, axis=dim), values[rank]) for rank in once
            ):
                yield once
                break


def combined(values: Blocks, axes: Sequence[str], mesh: Mesh, combine: Combine = np.sum) -> Blocks:
    """rank -> the sum, or another combination, over its group along these axes; all ranks hold a block of one shape."""
    for axis in axes:
        groups = {rank: group for group in mesh.groups(axis) for rank in group}
        values = {rank: combine([values[other] for other in groups[rank]], axis=0) for rank in values}
    return values
