"""Assembly: what the ranks hold of a tensor, laid against what one device holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.evidence.evidence import Block, Index, Observed

Selector = tuple[slice, ...] | tuple[np.ndarray, ...]


def selector(index: Index) -> Selector:
    """An index that numpy takes: slices stay slices; with any index array it becomes an open mesh."""
    if all(isinstance(part, slice) for part in index):
        return index  # type: ignore[return-value]
    return np.ix_(*(_elements(part) for part in index))


def _elements(part: slice | np.ndarray) -> np.ndarray:
    return np.arange(part.start, part.stop) if isinstance(part, slice) else part


def sum_partials(observed: Observed, mesh: Mesh) -> tuple[Block, ...]:
    """The blocks with every pending partial sum carried out, in float64, in axis order.

    A sum to which some rank hands nothing over is not known: NaN.
    """
    blocks = observed.blocks
    for axis in {axis for block in blocks for axis in block.partial}:
        blocks = _summed(blocks, mesh, axis)
    return blocks


def _summed(blocks: tuple[Block, ...], mesh: Mesh, axis: str) -> tuple[Block, ...]:
    by_rank = {rank: block for block in blocks for rank in block.ranks}
    sums = []
    for group in mesh.groups(axis):
        parts = [by_rank[rank] for rank in group if rank in by_rank]
        if not parts:
            continue
        total = np.sum([part.value.astype(np.float64) for part in parts], axis=0)
        total = total if len(parts) == len(group) else np.full_like(total, np.nan)
        waiting = tuple(other for other in parts[0].partial if other != axis)
        sums.append(Block(ranks=tuple(group), index=parts[0].index, value=total, partial=waiting))
    return tuple(sums)


def gathered(observed: Observed, mesh: Mesh) -> np.ndarray:
    """The whole tensor in float64; the lowest rank's copy where copies differ, NaN where no rank holds anything."""
    whole = np.full(observed.shape, np.nan)
    for block in sorted(sum_partials(observed, mesh), key=lambda block: block.ranks, reverse=True):
        whole[selector(block.index)] = block.value
    return whole


def covered(observed: Observed) -> np.ndarray:
    """Elementwise: is it held by at least one rank?"""
    held = np.zeros(observed.shape, dtype=bool)
    for block in observed.blocks:
        held[selector(block.index)] = True
    return held


def distance(value: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Elementwise |value - other|: none between equal infinities, as a mask puts them, NaN beside what is no number."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(value - other)
    return np.where(value == other, 0.0, apart)


def deviation(observed: Observed, expected: np.ndarray, mesh: Mesh) -> np.ndarray:
    """Elementwise largest |copy - expected| over every rank's copy; infinite where one is not finite or is missing."""
    worst = np.where(covered(observed), 0.0, np.inf)
    for block in sum_partials(observed, mesh):
        where = selector(block.index)
        error = distance(block.value.astype(np.float64), expected[where])
        worst[where] = np.maximum(worst[where], np.where(np.isnan(error), np.inf, error))
    return worst


def ranks_beyond(observed: Observed, expected: np.ndarray, allowed: np.ndarray, mesh: Mesh) -> tuple[int, ...]:
    """The ranks that hold an element farther from the expected value than is allowed."""
    beyond: set[int] = set()
    for block in sum_partials(observed, mesh):
        where = selector(block.index)
        within = distance(block.value.astype(np.float64), expected[where]) <= allowed[where]
        if not within.all():
            beyond.update(block.ranks)
    return tuple(sorted(beyond))


def disagreements(observed: Observed) -> Iterator[tuple[Block, Block]]:
    """Pairs of blocks that overlap on some canonical element without holding the same bits there."""
    for first, second in _overlapping_pairs(observed.blocks):
        shared = [np.intersect1d(_elements(a), _elements(b)) for a, b in zip(first.index, second.index, strict=True)]
        if any(len(part) == 0 for part in shared):
            continue
        ours, theirs = (_restricted(block, shared) for block in (first, second))
        if ours.tobytes() != theirs.tobytes():
            yield first, second


def _overlapping_pairs(blocks: tuple[Block, ...]) -> Iterator[tuple[Block, Block]]:
    """Candidate pairs, found cheaply: equal indexes first, then (for index arrays) any two blocks."""
    if all(isinstance(part, slice) for block in blocks for part in block.index):
        same: dict[tuple[Any, ...], list[Block]] = defaultdict(list)
        for block in blocks:
            if not block.partial:
                same[tuple((part.start, part.stop) for part in block.index)].append(block)  # type: ignore[union-attr]
        for group in same.values():
            yield from combinations(group, 2)
    else:
        yield from combinations([block for block in blocks if not block.partial], 2)


def _restricted(block: Block, shared: list[np.ndarray]) -> np.ndarray:
    places = []
    for part, wanted in zip(block.index, shared, strict=True):
        elements = _elements(part)
        order = np.argsort(elements, kind="stable")
        places.append(order[np.searchsorted(elements, wanted, sorter=order)])
    return np.ascontiguousarray(block.value[np.ix_(*places)])


def copies(observed: Observed) -> int:
    """How many elements are held more than once: what a comparison of replicas really compares."""
    held = np.zeros(observed.shape, dtype=np.int64)
    for block in observed.blocks:
        if not block.partial:
            held[selector(block.index)] += len(block.ranks)
    return int(np.maximum(held - 1, 0).sum())
