"""A mask that hides other elements than that of one device: all that both let through is the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from conformance.diagnosis.inside.blocks import CLOSE, FILL, Blocks, filled
from conformance.diagnosis.inside.kinds import SELECTIONS
from conformance.diagnosis.inside.matching import Matcher
from conformance.evidence.intermediates import Intermediate

MANY = 2  # elements of a row
ENOUGH = 4  # elements that both let through: numbers that are the same by chance are fewer


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """Of so many elements, those that are hidden here alone, and those that one device hides and these ranks see.

    misplaced   every rank hides what one device hides in another block of some value: mask and numbers belong to two
    chosen      one element of a row is seen at the most, as that of a label is
    """

    elements: int
    more: int
    fewer: int
    misplaced: bool
    chosen: bool = False

    @property
    def counts(self) -> str:
        sees = f"it hides {self.more} that one device sees, and lets {self.fewer} through that it hides"
        return f"of {self.elements} elements {sees}"


def hidden(value: Intermediate, matcher: Matcher, fills: Sequence[float] = ()) -> Hidden | None:
    """What another mask hides; None for no mask. `fills`: further numbers that a selection puts where it hides."""
    held = {rank: filled(block).ravel() for rank, block in value.values.items()}
    sizes = {block.size for block in held.values()}
    if len(sizes) != 1:
        return None
    elements = sizes.pop()
    for fill in (FILL, *(fills if value.operation in SELECTIONS else ())):
        if any((block == fill).any() for block in held.values()) and (fill == FILL or not _chooses_ranks(held, fill)):
            blocks = list(matcher.blocks_of(elements))
            counts = (_counts(held, wanted, fill) for wanted in blocks)
            more, fewer = min((pair for pair in counts if pair is not None), key=sum, default=(0, 0))
            if more + fewer:
                misplaced = any(_hides_alike(held, other, fill) for other in blocks)
                return Hidden(
                    elements=elements * len(held),
                    more=more,
                    fewer=fewer,
                    misplaced=misplaced,
                    chosen=_is_one_of_a_row(value, fill),
                )
    return None


def _is_one_of_a_row(value: Intermediate, fill: float) -> bool:
    """Whether of many elements along the last dim one is seen at the most."""
    blocks = [filled(block) for block in value.values.values()]
    return all(block.ndim and block.shape[-1] > MANY and (block != fill).sum(-1).max() == 1 for block in blocks)


def _chooses_ranks(held: Blocks, fill: float) -> bool:
    """Whether every rank has fillings alone, or none: what one of them has is taken, and no element is hidden."""
    return all(bool(np.all(block == fill)) or bool(np.all(block != fill)) for block in held.values())


def _counts(held: Blocks, wanted: Blocks, fill: float) -> tuple[int, int] | None:
    """Elements that are hidden here alone, and there alone; None where others differ, or none do."""
    more = fewer = same = 0
    for rank, block in held.items():
        right = wanted[rank].ravel()
        here, there = block == fill, right == fill
        both = ~here & ~there
        slack = CLOSE * float(np.abs(right).max(initial=0.0))
        if (np.abs(block - right)[both] > slack).any():
            return None
        more += int((here & ~there).sum())
        fewer += int((there & ~here).sum())
        same += int(both.sum())
    return (more, fewer) if same >= ENOUGH and more + fewer else None


def _hides_alike(held: Blocks, other: Blocks, fill: float) -> bool:
    return all(np.array_equal(block == fill, other[rank].ravel() == fill) for rank, block in held.items())
