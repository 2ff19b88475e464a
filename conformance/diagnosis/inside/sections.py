"""A value of which every section is divided by itself, and lies beside the others: no block of the whole value.

So is a fused projection whose weight is stored as [q_i | k_i | v_i], and so are rows [B, S] that are multiplied as
B times S while S is divided: the sections are the rows of one sequence. How many sections there are is told by how one
device cuts such a value; equal ones are tried in all numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.blocks import (
    Dims,
    Match,
    agree,
    cut,
    divisions,
    filled,
    is_trivial,
    on_all,
    parts,
    whole,
)
from conformance.diagnosis.inside.kinds import ARRANGED, CUTS
from conformance.evidence.intermediates import Intermediate

Sizes = tuple[int, ...]


class Sections:
    """Finds what one device makes in values that are divided section by section."""

    def __init__(self, twin: Iterable[Intermediate], mesh: Mesh) -> None:
        self._mesh, self._cuts = mesh, _cuts(twin)

    def match(self, value: Intermediate, counterparts: Iterable[Intermediate]) -> Match | None:
        """What a value is of what its line makes on one device.

        None for what makes no numbers, as it may have put right ones in the wrong places.
        """
        held = None if value.operation in ARRANGED else on_all(value, self._mesh)
        if held is None:
            return None
        for counterpart in counterparts:
            of = filled(whole(counterpart))
            for dim, sizes, dims in self._ways(of.shape, held[0].shape):
                wanted = {rank: self._block(of, dim, sizes, dims, rank) for rank in held}
                if not is_trivial(of) and agree(held, wanted.__getitem__, float(np.abs(of).max())):
                    return Match(whole=counterpart.number, dims=dims, sections=(dim, sizes))
        return None

    def _ways(self, wanted: Sizes, held: Sizes) -> Iterator[tuple[int, Sizes, Dims]]:
        """(dim, sizes of its sections, how all of them are divided) so that blocks of this shape come out."""
        axes = [axis for axis, size in self._mesh.sizes if size > 1]
        divided = [
            dims
            for dims in (divisions(wanted, axes, self._mesh) if len(wanted) == len(held) else ())
            if tuple(size // parts(dims, dim, self._mesh) for dim, size in enumerate(wanted)) == held
        ]
        for dim, size in enumerate(wanted):
            equal = ((size // number,) * number for number in range(2, size) if size % number == 0)
            for dims in divided:
                number = parts(dims, dim, self._mesh)
                for sizes in (*self._cuts.get(size, ()), *equal) if number > 1 else ():
                    if all(section % number == 0 for section in sizes):
                        yield dim, sizes, dims

    def _block(self, of: np.ndarray, dim: int, sizes: Sizes, dims: Dims, rank: int) -> np.ndarray:
        sections = np.split(of, list(accumulate(sizes))[:-1], axis=dim)
        where = self._mesh.coordinates(rank)
        return np.concatenate([cut(section, dims, self._mesh, where) for section in sections], axis=dim)


def _cuts(twin: Iterable[Intermediate]) -> Mapping[int, set[Sizes]]:
    """Length of a dim -> how one device cuts such a dim, in sections that are not all equal."""
    values = {value.number: value for value in twin}
    made_of: dict[int, list[Intermediate]] = {}
    for value in values.values():
        if value.operation in CUTS and len(value.sources) == 1 and value.sources[0] in values:
            made_of.setdefault(value.sources[0], []).append(value)
    cuts: dict[int, set[Sizes]] = {}
    for number, sections in made_of.items():
        for size, sizes in _cut_dims(whole(values[number]).shape, [whole(section).shape for section in sections]):
            cuts.setdefault(size, set()).add(sizes)
    return cuts


def _cut_dims(shape: Sizes, sections: Sequence[Sizes]) -> Iterator[tuple[int, Sizes]]:
    """(the length of a dim, the sizes of its sections) where these are all of it."""
    alike = [section for section in sections if len(section) == len(shape)]
    for dim, size in enumerate(shape):
        sizes = tuple(section[dim] for section in alike)
        if sum(sizes) == size and len(set(sizes)) > 1:
            yield size, sizes
