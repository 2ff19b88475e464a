"""Positions that overlap or leave gaps between ranks: one counts on from a wrong start, or has a wrong chunk of them.

Each rank has as many whole numbers as an even division gives it, in a row or in chunks. One device counts all of them
at the same line; together the ranks do not have these, in whatever order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from conformance.diagnosis.inside.blocks import along, whole
from conformance.diagnosis.inside.compared import Compared, spoken
from conformance.diagnosis.inside.indices import is_whole
from conformance.diagnosis.inside.sureness import FOUND
from conformance.evidence.intermediates import Intermediate
from conformance.records.formatting import spans
from conformance.records.results import Cause

MOST_SPANS = 4


def of_positions(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """Among the whole numbers on the way to a wrong value."""
    for value in (compared.values[number] for number in sorted(compared.way) if number < first.number):
        starts = _starts(value) if is_whole(value) else None
        counted = [whole(each) for each in compared.counterparts(value)] if starts is not None else []
        if starts is None or not counted or any(_start(each) is None for each in counted):
            continue
        for axis, size in compared.mesh.sizes:
            own = along(axis, starts, compared.mesh)
            length, every = next(iter(value.values.values())).size, {each.size for each in counted}
            if size > 1 and own is not None and all(length == -(-number // size) for number in every):
                meant = [int(counted[0][0]) + place * length for place in range(size)]
                if sorted(own) != meant:
                    words = f"ranks of {axis} count from {_listed(own)}, where their blocks begin at {_listed(meant)}"
                    basis = f"one device counts {len(counted[0])} there, and every rank {length} of them in a row"
                    said = f"{words}: {spoken(value)}"
                    yield Cause(cause=said, axis=axis, confidence=FOUND, axis_confidence=FOUND, basis=basis)
                    return
    yield from _of_chunks(compared, first)


def _of_chunks(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """Of positions in chunks, which are nobody's; the same is asked of numbers that stand for positions alone."""
    for value in (compared.values[number] for number in sorted(compared.way) if number < first.number):
        counted = [whole(each) for each in compared.counterparts(value)] if _is_counted(value) else []
        lengths = {each.size for each in counted if np.array_equal(np.sort(each.ravel()), np.arange(each.size))}
        numbers = {rank: tuple(map(int, block.ravel())) for rank, block in value.values.items()} if lengths else {}
        for axis, size in compared.mesh.sizes if len(lengths) == 1 else ():
            held = list(along(axis, numbers, compared.mesh) or ()) if size > 1 else []
            every = [number for places in held for number in places]
            lacking = sorted({*range(*lengths)} - {*every})
            if lacking and {len(every)} == lengths:
                have = ", the next ".join(map(_spans, held))
                words = f"positions {_spans(lacking)} are nobody's: a rank of {axis} has {have} at {spoken(value)}"
                basis = f"one device counts {len(every)} there, of which every rank has {len(held[0])}"
                yield Cause(cause=words, axis=axis, confidence=FOUND, axis_confidence=FOUND, basis=basis)
                return


def _is_counted(value: Intermediate) -> bool:
    """Whole numbers from zero up along one dim, not the same on all ranks, nor places in a rank's own rows."""
    blocks = list(value.values.values())
    one_dim = all(block.size > 1 and max(block.shape, default=0) == block.size for block in blocks)
    whole_ones = one_dim and all((block == np.round(block)).all() and (block >= 0).all() for block in blocks)
    local = whole_ones and all(np.array_equal(np.sort(block.ravel()), np.arange(block.size)) for block in blocks)
    return whole_ones and not local and any(not np.array_equal(block, blocks[0]) for block in blocks)


def _starts(value: Intermediate) -> dict[int, int] | None:
    """Where each rank begins to count; None where one does not, or all begin alike."""
    starts = {rank: _start(block) for rank, block in value.values.items()}
    known = {rank: start for rank, start in starts.items() if start is not None}
    return known if len(known) == len(starts) and len(set(known.values())) > 1 else None


def _start(block: np.ndarray) -> int | None:
    counts = block.ndim == 1 and block.size > 1 and bool((np.diff(block) == 1).all())
    return int(block[0]) if counts else None


def _spans(numbers: Sequence[int]) -> str:
    """Those that follow each other as one, and no more than a few of them."""
    parts = spans({*numbers}).split(", ")
    more = len(parts) - MOST_SPANS
    return ", ".join(parts[:MOST_SPANS]) + (f" and {more} parts more" if more > 0 else "")


def _listed(numbers: Sequence[int]) -> str:
    return " and ".join(filter(None, (", ".join(map(str, numbers[:-1])), str(numbers[-1]))))
