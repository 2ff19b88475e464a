"""Blocks that a ring has brought, and those of which one axis divides two dims: queries beside the keys that came.

In step k of a ring of n ranks, rank r has the rows of block r and the columns of block (r + k) mod n.
Source: Liu et al., Ring Attention with Blockwise Transformers, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import permutations, product

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.blocks import Blocks, Dims, Match, agree, cut, divisions, is_trivial, parts, whole
from conformance.diagnosis.inside.fingerprints import Fingerprints
from conformance.evidence.intermediates import Intermediate

FEW = 2  # axes


@dataclass(frozen=True, kw_only=True)
class RingBlock:
    """What every rank holds of a whole value in one step of a ring along `axis`.

    rows     the dims that axes divide as they always do; that of the ring among them, unless the block itself came
    columns  the dim of which the ring has brought the block of the rank that stands `step` further
    """

    value: Intermediate
    axis: str
    rows: Dims
    columns: int
    step: int

    def elements(self, mesh: Mesh) -> int:
        """Of the block of a rank, with what fills last parts up."""
        dims = (*self.rows, (self.axis, self.columns))
        return math.prod(-(-size // parts(dims, dim, mesh)) for dim, size in enumerate(whole(self.value).shape))

    def block(self, rank: int, mesh: Mesh) -> np.ndarray:
        where = mesh.coordinates(rank)
        further = {**where, self.axis: (where[self.axis] + self.step) % mesh.size(self.axis)}
        rows = cut(whole(self.value), self.rows, mesh, where)
        return cut(rows, ((self.axis, self.columns),), mesh, further)


class RingBlocks:
    """Finds values of one device in what the ranks of a ring hold; `largest` is the largest magnitude in each.

    axes   along which there may be a ring
    """

    def __init__(
        self, wholes: Sequence[Intermediate], largest: Mapping[int, float], mesh: Mesh, axes: Collection[str]
    ) -> None:
        self._wholes, self._largest, self._mesh, self._axes = wholes, largest, mesh, axes
        self._known: dict[tuple[int, int], Fingerprints] = {}

    def match(self, values: Blocks) -> Match | None:
        """None also where no rank holds anything that tells: a causal mask hides all of some blocks."""
        rank = next((rank for rank, block in values.items() if not is_trivial(block)), None)
        if rank is None or not all(np.isfinite(block).all() for block in values.values()):
            return None
        held = values[rank]
        for place in self._fingerprints(held.size, rank).like(held):
            candidate = self.of_size(held.size)[place]
            if agree(values, partial(candidate.block, mesh=self._mesh), self._largest[candidate.value.number]):
                moved = candidate.axis not in dict(candidate.rows)
                return Match(whole=candidate.value.number, dims=candidate.rows, moved=moved)
        return None

    def of_size(self, elements: int) -> list[RingBlock]:
        """All that have blocks of so many elements."""
        return self._by_size.get(elements, [])

    def _fingerprints(self, elements: int, rank: int) -> Fingerprints:
        """Of what a rank holds of each."""
        if (elements, rank) not in self._known:
            rings = self.of_size(elements)
            blocks = (ring.block(rank, self._mesh) for ring in rings)
            self._known[elements, rank] = Fingerprints.of(blocks, (self._largest[ring.value.number] for ring in rings))
        return self._known[elements, rank]

    @cached_property
    def _by_size(self) -> Mapping[int, list[RingBlock]]:
        rings: dict[int, list[RingBlock]] = {}
        for ring in self._candidates():
            rings.setdefault(ring.elements(self._mesh), []).append(ring)
        return rings

    def _candidates(self) -> Iterator[RingBlock]:
        """Of values with two dims that an axis divides both, such as scores; and those that it brings as they are."""
        axes = [axis for axis, size in self._mesh.sizes if size > 1]
        few = len(axes) <= FEW  # on more there are too many ways, and scores alone are looked for
        for value, axis in product(self._wholes, [axis for axis in axes if axis in self._axes]):
            shape, size = whole(value).shape, self._mesh.size(axis)
            divided = [dim for dim, length in enumerate(shape) if length >= size]
            others = [other for other in axes if other != axis]
            for dims in divisions(shape, others, self._mesh):
                free = [dim for dim in divided if dim not in {dim for _, dim in dims}]
                for row, column in permutations(free, 2):
                    if not few and shape[row] != shape[column]:
                        continue
                    rows = (*dims, (axis, row))
                    yield from self._steps(value, axis, rows, column, range(size))
                for column in free if few else ():
                    yield from self._steps(value, axis, dims, column, range(1, size))

    @staticmethod
    def _steps(value: Intermediate, axis: str, rows: Dims, columns: int, steps: range) -> Iterator[RingBlock]:
        for step in steps:
            yield RingBlock(value=value, axis=axis, rows=rows, columns=columns, step=step)
