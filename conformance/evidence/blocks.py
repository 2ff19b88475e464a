"""Blocks by place and by bits: what is the same block, and what are the same observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from conformance.evidence.evidence import Block, Observations, Observed

Place = tuple[object, ...]


def place(block: Block) -> Place:
    """Which canonical elements a block holds, and over which axes it is still a partial sum; hashable."""
    index = tuple((part.start, part.stop) if isinstance(part, slice) else part.tobytes() for part in block.index)
    return (index, block.partial)


def merged(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Blocks of the same place and the same bits (signed zeros and NaN payloads too) as one, in order of rank."""
    same: dict[Place, list[Block]] = {}
    for block in blocks:
        same.setdefault((place(block), block.value.dtype.str, block.value.tobytes()), []).append(block)
    groups = [
        replace(group[0], ranks=tuple(sorted(rank for block in group for rank in block.ranks)))
        for group in same.values()
    ]
    return tuple(sorted(groups, key=lambda block: block.ranks))


def same_bits(observed: Observed, other: Observed) -> bool:
    """Whether the same ranks hold the same bits of the same elements."""
    return _content(observed) == _content(other)


def all_same_bits(observations: Observations, other: Observations) -> bool:
    """Whether two sets of observations have the same names and the same bits."""
    return observations.keys() == other.keys() and all(
        same_bits(observations[name], other[name]) for name in observations
    )


def _content(observed: Observed) -> list[Place]:
    return sorted((block.ranks, place(block), block.value.tobytes()) for block in observed.blocks)
