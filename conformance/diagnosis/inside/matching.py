"""Matching: which whole value of one device the blocks of many devices are, and in what placement.

A value is known again by its numbers alone, wherever it comes from. Every mesh axis divides one dim of it, holds copies
of it, or holds partial sums that add up to it; in a ring one axis divides two dims.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, combinations

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.blocks import (
    Blocks,
    Dims,
    Match,
    agree,
    combined,
    cut,
    divisions,
    filled,
    is_trivial,
    lengthened,
    parts,
    thinned,
    whole,
)
from conformance.diagnosis.inside.fingerprints import Fingerprints
from conformance.diagnosis.inside.rings import RingBlocks
from conformance.evidence.intermediates import Intermediate, Intermediates


@dataclass(frozen=True, kw_only=True)
class _Candidates:
    """Values in one placement each that give a rank as many elements, in the order of the program."""

    placed: Sequence[tuple[Intermediate, Dims]]
    fingerprints: Fingerprints

    def like(self, held: np.ndarray) -> Iterator[tuple[Intermediate, Dims]]:
        """Those that rank 0 may have a block of."""
        return (self.placed[place] for place in self.fingerprints.like(held))


class Matcher:
    """Finds values of one device (`twin`) in the blocks of a mesh; those that tell something.

    tells   of the values of one device, and of the blocks of a rank, which can be known again by their numbers
    rings   the axes along which blocks may go round; any where that is not known
    others  the values in another order than `twin` has them, under the same numbers
    """

    def __init__(
        self,
        twin: Intermediates,
        mesh: Mesh,
        tells: Callable[[np.ndarray], bool] | None = None,
        rings: Collection[str] | None = None,
        others: Sequence[Intermediate] = (),
    ) -> None:
        self._tells = tells or _is_telling
        own, canonical = (
            [replace(value, values={0: filled(whole(value))}) for value in part if value.values]
            for part in ((*twin.values, *twin.inputs), others)
        )
        self._wholes = _different(value for value in (*own, *canonical) if self._tells(whole(value)))
        self._canonical = {id(value) for value in canonical} & {id(value) for value in self._wholes}
        self._largest = {value.number: float(np.abs(whole(value)).max()) for value in self._wholes}
        self._mesh = mesh
        self._rings = RingBlocks(self._wholes, self._largest, mesh, mesh.axes if rings is None else rings)
        self._known: dict[Hashable, Match | None] = {}

    @cached_property
    def _axes(self) -> tuple[str, ...]:
        return tuple(axis for axis, size in self._mesh.sizes if size > 1)

    def match(self, value: Intermediate) -> Match | None:
        """What the blocks are; whole before partial sums, which must lie on all ranks. None where they are nothing."""
        held = tuple((rank, block.shape, block.tobytes()) for rank, block in value.values.items())
        key = hash(held)  # many values are the numbers of others: copies, and what is converted
        if key not in self._known:
            self._known[key] = self._matched_anew(value)
        return self._known[key]

    def _matched_anew(self, value: Intermediate) -> Match | None:
        blocks = {rank: filled(block) for rank, block in value.values.items()}
        ways = chain((self._of_blocks(blocks),), map(self._of_blocks, thinned(blocks)), self._of_ring(blocks))
        return next(filter(None, ways), None)

    def _of_blocks(self, values: Blocks) -> Match | None:
        if not any(map(self._tells, values.values())) or not all(map(_is_finite, values.values())):
            return None
        shapes = {block.shape for block in values.values()}
        for number in range(len(self._axes) + 1 if len(shapes) == 1 else 1):
            for partial in combinations(self._axes, number):
                if not all(self._has_groups(values, axis) for axis in partial):
                    continue
                if any(self._are_copies(values, axis) for axis in partial):
                    continue  # a share of the sum on every rank, not a partial sum
                match = self._matched(combined(values, partial, self._mesh), partial)
                if match is not None:
                    return match
        return None

    def _of_ring(self, values: Blocks) -> Iterator[Match | None]:
        yield self._rings.match(values)

    def found(self, values: Blocks) -> Match | None:
        """What blocks are that were computed from others; None where they are nothing."""
        return None if all(map(is_trivial, values.values())) else self._matched(values, ())

    def whole(self, match: Match) -> np.ndarray:
        """The value that was found."""
        return self._by_number[match.whole]

    @cached_property
    def _by_number(self) -> Mapping[int, np.ndarray]:
        return {value.number: whole(value) for value in reversed(self._wholes)}

    def placements(self, value: Intermediate, shape: tuple[int, ...], uneven: bool = False) -> Iterator[Dims]:
        """The ways to divide a whole value so that blocks of this shape come out."""
        wanted = whole(value).shape
        for dims in divisions(wanted, self._axes, self._mesh, uneven):
            if tuple(-(-size // parts(dims, dim, self._mesh)) for dim, size in enumerate(wanted)) == shape:
                yield dims

    def in_blocks_of(self, shape: tuple[int, ...], uneven: bool = False) -> Iterator[tuple[Intermediate, Dims]]:
        """Values of one device, and the ways to divide them in blocks of this shape; `uneven`, the last filled up."""
        for value in self._wholes:
            yield from ((value, dims) for dims in self.placements(value, shape, uneven))

    def blocks_of(self, elements: int) -> Iterator[Blocks]:
        """What all ranks might hold in blocks of so many elements, those that a ring makes among them."""
        ranks = range(self._mesh.devices)
        for value, dims in self._divided[elements].placed if elements in self._divided else ():
            blocks = {rank: self.block(value, dims, rank) for rank in ranks}
            if not any(np.isnan(block).any() for block in blocks.values()):
                yield blocks
        for ring in self._rings.of_size(elements):
            yield {rank: ring.block(rank, self._mesh) for rank in ranks}

    def block(self, value: Intermediate, dims: Dims, rank: int) -> np.ndarray:
        """What a rank holds of a whole value."""
        return cut(whole(value), dims, self._mesh, self._mesh.coordinates(rank))

    def known(self, match: Match, rank: int) -> np.ndarray:
        """What a rank should hold of the value that was found; NaN where what it holds is nobody's."""
        return cut(self._by_number[match.whole], match.dims, self._mesh, self._mesh.coordinates(rank))

    def _are_copies(self, values: Blocks, axis: str) -> bool:
        """Whether all ranks along an axis hold the same bits."""
        groups = [group for group in self._mesh.groups(axis) if group[0] in values]
        return all(np.array_equal(values[rank], values[group[0]]) for group in groups for rank in group)

    def _has_groups(self, values: Blocks, axis: str) -> bool:
        """Whether all ranks of a group along the axis hold something, or none does."""
        return all(len({rank in values for rank in group}) == 1 for group in self._mesh.groups(axis))

    def _matched(self, values: Blocks, partial: tuple[str, ...]) -> Match | None:
        held = values[min(values)]
        groups = (group[held.size] for group in (self._divided, self._lengthened) if held.size in group)
        for value, dims in chain.from_iterable(candidates.like(held) for candidates in groups):
            if not {axis for axis, _ in dims} & {*partial} and self._agree(values, value, dims):
                canonical = id(value) in self._canonical
                return Match(whole=value.number, dims=dims, partial=partial, canonical=canonical)
        return None

    def _agree(self, values: Blocks, value: Intermediate, dims: Dims) -> bool:
        return agree(values, lambda rank: self.block(value, dims, rank), self._largest[value.number])

    @cached_property
    def _divided(self) -> Mapping[int, _Candidates]:
        """Elements of a block -> all values and placements that give rank 0 so many.

        A block is known by its elements in row-major order: a flat buffer holds what a tensor holds.
        """
        return self._by_elements(
            (value, dims)
            for value in self._wholes
            for dims in divisions(whole(value).shape, self._axes, self._mesh, uneven=True)
        )

    @cached_property
    def _lengthened(self) -> Mapping[int, _Candidates]:
        """Elements -> the values that are filled up to so many and held so by a rank."""
        sizes = sorted({size for _, size in self._mesh.sizes if size > 1})
        longer = [replace(value, values={0: x}) for value in self._wholes for x in lengthened(whole(value), sizes)]
        every = ((value, dims) for value in longer for dims in divisions(whole(value).shape, self._axes, self._mesh))
        return self._by_elements((value, dims) for value, dims in every if np.isnan(self.block(value, dims, 0)).any())

    def _by_elements(self, placed: Iterable[tuple[Intermediate, Dims]]) -> Mapping[int, _Candidates]:
        groups: dict[int, list[tuple[Intermediate, Dims]]] = {}
        for value, dims in placed:
            groups.setdefault(self.block(value, dims, 0).size, []).append((value, dims))
        return {
            size: _Candidates(placed=group, fingerprints=self._fingerprints(group)) for size, group in groups.items()
        }

    def _fingerprints(self, placed: Sequence[tuple[Intermediate, Dims]]) -> Fingerprints:
        blocks = (self.block(value, dims, 0) for value, dims in placed)
        return Fingerprints.of(blocks, (self._largest[value.number] for value, _ in placed))


def _different(values: Iterable[Intermediate]) -> list[Intermediate]:
    """The first of all that hold the same numbers in the same shape: many are copies."""
    first: dict[Hashable, Intermediate] = {}
    for value in values:
        x = whole(value)
        first.setdefault((x.shape, x.tobytes()), value)
    return list(first.values())


def _is_finite(value: np.ndarray) -> bool:
    return bool(np.isfinite(value).all())


def _is_telling(value: np.ndarray) -> bool:
    return _is_finite(value) and not is_trivial(value)
