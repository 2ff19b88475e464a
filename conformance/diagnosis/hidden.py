"""A mask that hides other elements than that of one device: all that both let through is the same."""

from __future__ import annotations

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.blocks import CLOSE, FILL, Blocks, filled
from conformance.diagnosis.matching import Matcher
from conformance.evidence.intermediates import Intermediate

SELECTIONS = ("select_n", "where", "masked_fill", "masked_fill_")  # they may put zeros where nothing is to be seen
ENOUGH = 4  # elements that both let through: numbers that are the same by chance are fewer


def hidden(value: Intermediate, matcher: Matcher, mesh: Mesh) -> str | None:
    """How many elements are hidden, or let through, that one device does not hide, or does; None for no mask."""
    held = {rank: filled(block).ravel() for rank, block in value.values.items()}
    sizes = {block.size for block in held.values()}
    if len(held) < mesh.devices or len(sizes) != 1:
        return None
    elements = sizes.pop()
    for fill in (FILL, 0.0) if value.operation in SELECTIONS else (FILL,):
        if any((block == fill).any() for block in held.values()):
            counts = (_counts(held, wanted, fill) for wanted in matcher.blocks_of(elements))
            more, fewer = min((pair for pair in counts if pair is not None), key=sum, default=(0, 0))
            if more + fewer:
                of = elements * len(held)
                return f"of {of} elements it hides {more} that one device sees, and lets {fewer} through that it hides"
    return None


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
