"""Parts of a whole value that ranks cut out for themselves: which they take, and which belong to them.

There may be fewer parts than ranks, as with heads of keys that several ranks share. Which part belongs to a rank is
told by what one device makes of it: a line whose blocks the ranks have, on other ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from conformance.diagnosis.inside.blocks import CLOSE, Blocks, along, is_trivial, on_all
from conformance.diagnosis.inside.compared import Compared, origin, spoken
from conformance.diagnosis.inside.exchanges import line
from conformance.diagnosis.inside.kinds import SECTIONS
from conformance.diagnosis.inside.sureness import FOUND
from conformance.diagnosis.inside.way import made_of
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause

MOST_MADE = 32  # values made of a part that are looked through
Parts = tuple[int, ...]  # rank by rank, the number of a part


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The parts that the ranks take, along a dim of a value that all of them have whole, of some rows perhaps."""

    dim: int
    parts: Parts


def of_taken(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """Ranks along an axis take parts that are not theirs, beside what is theirs along the same axis."""
    taken = _taken(compared, first)
    if taken is None:
        return
    for value, wanted in _wanted(compared, first, taken):
        for axis, size in compared.mesh.sizes:
            mine, theirs = (along(axis, dict(enumerate(parts)), compared.mesh) for parts in (taken.parts, wanted))
            if size > 1 and mine is not None and theirs is not None and _meets_own(compared, value, axis):
                words = f"ranks of {axis} take parts {mine} of dim {taken.dim}, where {theirs} belong to them"
                basis = f"what {spoken(value)} makes of them are blocks of what one device has there, on other ranks"
                said = f"{words}, at {line(first.place)}"
                yield Cause(cause=said, axis=axis, confidence=FOUND, axis_confidence=FOUND, basis=basis)
                return


def _taken(compared: Compared, first: Intermediate) -> Taken | None:
    """What an operation cuts out, where every rank takes one of the equal parts of a dim."""
    held = on_all(first, compared.mesh) if first.operation in SECTIONS and first.sources else None
    of = on_all(compared.values[first.sources[0]], compared.mesh) if held is not None else None
    if held is None or of is None:
        return None
    shape, own = of[0].shape, held[0].shape
    for dim, (size, length) in enumerate(zip(shape, own, strict=False)):
        if length and length < size and size % length == 0 and own == (*shape[:dim], length, *shape[dim + 1 :]):
            parts = [_which(held[rank], np.split(of[rank], size // length, axis=dim)) for rank in sorted(held)]
            known = tuple(part for part in parts if part is not None)
            return Taken(dim=dim, parts=known) if len(known) == len(parts) else None
    return None


def _wanted(compared: Compared, first: Intermediate, taken: Taken) -> Iterator[tuple[Intermediate, Parts]]:
    """Values made of the parts, and which part each rank needs so that it has its block of what one device has."""
    for value in islice(made_of(compared.wide.values, first), MOST_MADE):
        held = on_all(value, compared.mesh)
        if held is None:
            continue
        for counterpart in (other for other in compared.twin.values if origin(other) == origin(value)):
            for dims in compared.matcher.placements(counterpart, held[0].shape):
                blocks = {rank: compared.matcher.block(counterpart, dims, rank) for rank in held}
                wanted = _owned(held, blocks, taken.parts)
                if wanted is not None and wanted != taken.parts:
                    yield value, wanted


def _meets_own(compared: Compared, value: Intermediate, axis: str) -> bool:
    """Whether it is combined with a right block that the axis divides: else ranks may be in an order of their own."""
    for other in compared.wide.values:
        beside = other.sources if value.number in other.sources else ()
        known = [compared.matches.get(number) for number in beside if number != value.number]
        if any(match is not None and axis in dict(match.dims) and not match.moved for match in known):
            return True
    return False


def _owned(held: Blocks, wanted: Blocks, parts: Parts) -> Parts | None:
    """The parts of the ranks that have what each of them should have; None where nobody has, or several parts do."""
    owned = []
    for block in wanted.values():
        having = {part for part, other in zip(parts, held.values(), strict=True) if _which(block, [other]) is not None}
        if len(having) != 1 or is_trivial(block):
            return None
        owned.append(having.pop())
    return tuple(owned)


def _which(block: np.ndarray, of: Sequence[np.ndarray]) -> int | None:
    """The first that holds the same numbers."""
    slack = CLOSE * float(np.abs(block).max(initial=0.0))
    alike = (n for n, other in enumerate(of) if other.shape == block.shape and np.abs(other - block).max() <= slack)
    return next(alike, None)
