"""Matching: which whole value of one device the blocks of many devices are, and in what placement.

A value is known again by its numbers alone, wherever it comes from. Every mesh axis divides one dim of it, holds copies
of it, or holds partial sums that add up to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.evidence.intermediates import Intermediate, Intermediates

CLOSE = 1e-9  # relative to the largest element: float64 rounding of another order, and never another value
Dims = tuple[tuple[str, int], ...]  # axis -> the dim that it divides
Blocks = Mapping[int, np.ndarray]  # rank -> what it holds
Combine = Callable[..., np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Match:
    """`whole` is the number of the value on one device; over the axes of `partial` the blocks are partial sums."""

    whole: int
    dims: Dims
    partial: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """One value in one placement, with the part of it that rank 0 holds."""

    whole: Intermediate
    dims: Dims
    mark: float


class Matcher:
    """Finds values of one device (`twin`) in the blocks of a mesh."""

    def __init__(self, twin: Intermediates, mesh: Mesh) -> None:
        self._wholes = [value for value in twin.values if value.values and _is_telling(_whole(value))]
        self._mesh = mesh

    @cached_property
    def _axes(self) -> tuple[str, ...]:
        return tuple(axis for axis, size in self._mesh.sizes if size > 1)

    def match(self, value: Intermediate) -> Match | None:
        """What the blocks are; whole before partial sums, which must lie on all ranks. None where they are nothing."""
        return self._of_blocks(value.values) or next(filter(None, map(self._of_blocks, thinned(value.values))), None)

    def _of_blocks(self, values: Blocks) -> Match | None:
        blocks = values.values()
        if not blocks or is_trivial(next(iter(blocks))) or not all(np.isfinite(block).all() for block in blocks):
            return None
        shapes = {block.shape for block in blocks}
        complete = len(values) == self._mesh.devices and len(shapes) == 1
        for number in range(len(self._axes) + 1 if complete else 1):
            for partial in combinations(self._axes, number):
                if any(self._are_copies(values, axis) for axis in partial):
                    continue  # a share of the sum on every rank, not a partial sum
                match = self._matched(combined(values, partial, self._mesh), partial)
                if match is not None:
                    return match
        return None

    def found(self, values: Blocks) -> Match | None:
        """What blocks are that were computed from others; None where they are nothing."""
        return None if is_trivial(values[min(values)]) else self._matched(values, ())

    def whole(self, match: Match) -> np.ndarray:
        """The value that was found."""
        return self._by_number[match.whole]

    @cached_property
    def _by_number(self) -> Mapping[int, np.ndarray]:
        return {value.number: _whole(value) for value in self._wholes}

    def placements(self, whole: Intermediate, shape: tuple[int, ...]) -> Iterator[Dims]:
        """The ways to divide a whole value so that blocks of this shape come out."""
        wanted = _whole(whole).shape
        for dims in self._divisions(wanted):
            if tuple(size // self._parts(dims, dim) for dim, size in enumerate(wanted)) == shape:
                yield dims

    def in_blocks_of(self, shape: tuple[int, ...]) -> Iterator[tuple[Intermediate, Dims]]:
        """Values of one device, and the ways to divide them in blocks of this shape."""
        for whole in self._wholes:
            yield from ((whole, dims) for dims in self.placements(whole, shape))

    def block(self, whole: Intermediate, dims: Dims, rank: int) -> np.ndarray:
        """What a rank holds of a whole value."""
        part, where = _whole(whole), self._mesh.coordinates(rank)
        for axis, dim in dims:  # outer axes first, as mesh axes nest
            size = part.shape[dim] // self._mesh.size(axis)
            part = np.take(part, range(where[axis] * size, (where[axis] + 1) * size), axis=dim)
        return part

    def _are_copies(self, values: Mapping[int, np.ndarray], axis: str) -> bool:
        """Whether all ranks along an axis hold the same bits."""
        groups = self._mesh.groups(axis)
        return all(np.array_equal(values[rank], values[group[0]]) for group in groups for rank in group)

    def _parts(self, dims: Dims, dim: int) -> int:
        number = 1
        for axis, divided in dims:
            number *= self._mesh.size(axis) if divided == dim else 1
        return number

    def _matched(self, values: Mapping[int, np.ndarray], partial: tuple[str, ...]) -> Match | None:
        first = min(values)
        held = values[first]
        marks, candidates = self._tables.get(held.size, (np.empty(0), []))
        near = CLOSE * 100 * max(float(np.abs(held).sum()), 1e-300)
        mark = _mark(held)
        for number in range(int(np.searchsorted(marks, mark - near)), len(marks)):
            if marks[number] > mark + near:
                return None
            candidate = candidates[number]
            if not {axis for axis, _ in candidate.dims} & {*partial} and self._agree(values, candidate):
                return Match(whole=candidate.whole.number, dims=candidate.dims, partial=partial)
        return None

    def _agree(self, values: Mapping[int, np.ndarray], candidate: _Candidate) -> bool:
        slack = CLOSE * float(np.abs(_whole(candidate.whole)).max())
        blocks = {rank: self.block(candidate.whole, candidate.dims, rank) for rank in values}
        return all(
            value.size == blocks[rank].size and float(np.abs(value.ravel() - blocks[rank].ravel()).max()) <= slack
            for rank, value in values.items()
        )

    @cached_property
    def _tables(self) -> Mapping[int, tuple[np.ndarray, list[_Candidate]]]:
        """Elements of a block -> all values and placements that give rank 0 so many, sorted by their marks.

        A block is known by its elements in row-major order: a flat buffer holds what a tensor holds.
        """
        tables: dict[int, list[_Candidate]] = {}
        for whole in self._wholes:
            for dims in self._divisions(_whole(whole).shape):
                block = self.block(whole, dims, 0)
                tables.setdefault(block.size, []).append(_Candidate(whole=whole, dims=dims, mark=_mark(block)))
        for candidates in tables.values():
            candidates.sort(key=lambda candidate: candidate.mark)
        marks = {size: np.array([candidate.mark for candidate in candidates]) for size, candidates in tables.items()}
        return {size: (marks[size], candidates) for size, candidates in tables.items()}

    def _divisions(self, shape: tuple[int, ...]) -> Iterator[Dims]:
        """Every way in which axes can divide dims evenly."""
        for chosen in product((None, *range(len(shape))), repeat=len(self._axes)):
            dims = tuple((axis, dim) for axis, dim in zip(self._axes, chosen, strict=True) if dim is not None)
            if all(size % self._parts(dims, dim) == 0 for dim, size in enumerate(shape)):
                yield dims


def on_all(value: Intermediate, mesh: Mesh) -> Blocks | None:
    """Its blocks, where every rank has one of the same shape, and the first is no trivial one."""
    held = value.values
    alike = len(held) == mesh.devices and len({block.shape for block in held.values()}) == 1
    return None if not alike or is_trivial(held[0]) else held


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


def _is_telling(value: np.ndarray) -> bool:
    return bool(np.isfinite(value).all()) and not is_trivial(value)


def is_trivial(value: np.ndarray) -> bool:
    """One number everywhere, or nothing but whole numbers: many values are that by chance."""
    if not value.size or not np.isfinite(value).all():
        return not value.size
    return bool(np.ptp(value) == 0 and value.size > 1) or bool((value == np.round(value)).all())


def _whole(value: Intermediate) -> np.ndarray:
    return next(iter(value.values.values()))


def _mark(block: np.ndarray) -> float:
    """One projection of a block, the same for all blocks of as many elements."""
    return float(block.ravel() @ np.cos(np.arange(1.0, block.size + 1)))
