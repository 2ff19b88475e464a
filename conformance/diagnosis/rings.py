"""Blocks of which one axis divides two dims: each rank's queries beside the keys that a ring has brought it.

In step k of a ring of n ranks, rank r has the rows of block r and the columns of block (r + k) mod n.
Source: Liu et al., Ring Attention with Blockwise Transformers, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.blocks import Blocks, Dims, Match, agree, blur, cut, divisions, is_trivial, mark, whole
from conformance.evidence.intermediates import Intermediate


@dataclass(frozen=True, kw_only=True)
class RingBlock:
    """What every rank holds of a whole value in one step of a ring along `axis`.

    rows     the dims that axes divide as they always do, that of the ring among them
    columns  the dim of which the ring has brought the block of the rank that stands `step` further
    """

    value: Intermediate
    axis: str
    rows: Dims
    columns: int
    step: int

    def block(self, rank: int, mesh: Mesh) -> np.ndarray:
        where = mesh.coordinates(rank)
        further = {**where, self.axis: (where[self.axis] + self.step) % mesh.size(self.axis)}
        rows = cut(whole(self.value), self.rows, mesh, where)
        return cut(rows, ((self.axis, self.columns),), mesh, further)


class RingBlocks:
    """Finds values of one device in what the ranks of a ring hold."""

    def __init__(self, wholes: Sequence[Intermediate], mesh: Mesh) -> None:
        self._wholes, self._mesh = wholes, mesh
        self._marks: dict[tuple[int, int], np.ndarray] = {}

    def match(self, values: Blocks) -> Match | None:
        """None also where no rank holds anything that tells: a causal mask hides all of some blocks."""
        rank = next((rank for rank, block in values.items() if not is_trivial(block)), None)
        if rank is None or not all(np.isfinite(block).all() for block in values.values()):
            return None
        held = values[rank]
        near = blur(held)
        for place in np.flatnonzero(np.abs(self._marked(held.size, rank) - mark(held)) <= near):
            candidate = self.of_size(held.size)[place]
            wanted = {other: candidate.block(other, self._mesh) for other in values}
            if agree(values, wanted, float(np.abs(whole(candidate.value)).max())):
                return Match(whole=candidate.value.number, dims=candidate.rows)
        return None

    def of_size(self, elements: int) -> list[RingBlock]:
        """All that have blocks of so many elements."""
        return self._by_size.get(elements, [])

    def _marked(self, elements: int, rank: int) -> np.ndarray:
        """The marks of what a rank holds of each."""
        if (elements, rank) not in self._marks:
            marks = [mark(ring.block(rank, self._mesh)) for ring in self.of_size(elements)]
            self._marks[elements, rank] = np.array(marks)
        return self._marks[elements, rank]

    @cached_property
    def _by_size(self) -> Mapping[int, list[RingBlock]]:
        rings: dict[int, list[RingBlock]] = {}
        for ring in self._candidates():
            rings.setdefault(ring.block(0, self._mesh).size, []).append(ring)
        return rings

    def _candidates(self) -> Iterator[RingBlock]:
        """Of values with two dims of one size, such as scores, which an axis divides both."""
        axes = [axis for axis, size in self._mesh.sizes if size > 1]
        for value in self._wholes:
            shape = whole(value).shape
            for axis in axes:
                others = [other for other in axes if other != axis]
                for row, column in permutations(range(len(shape)), 2):
                    if shape[row] != shape[column] or shape[row] % self._mesh.size(axis):
                        continue
                    for dims in divisions(shape, others, self._mesh):
                        if not {row, column} & {dim for _, dim in dims}:
                            rows = (*dims, (axis, row))
                            yield from (
                                RingBlock(value=value, axis=axis, rows=rows, columns=column, step=step)
                                for step in range(self._mesh.size(axis))
                            )
