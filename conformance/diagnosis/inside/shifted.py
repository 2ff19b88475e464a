"""Positions that overlap or leave gaps between ranks: every rank counts on from a wrong start.

Each rank has as many consecutive whole numbers as an even division gives it. One device counts all of them at the same
line; the starts of the ranks are not those of the division, in whatever order of ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from conformance.diagnosis.inside.blocks import along, whole
from conformance.diagnosis.inside.compared import Compared, spoken
from conformance.diagnosis.inside.indices import is_whole
from conformance.diagnosis.inside.sureness import FOUND
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause


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


def _starts(value: Intermediate) -> dict[int, int] | None:
    """Where each rank begins to count; None where one does not, or all begin alike."""
    starts = {rank: _start(block) for rank, block in value.values.items()}
    known = {rank: start for rank, start in starts.items() if start is not None}
    return known if len(known) == len(starts) and len(set(known.values())) > 1 else None


def _start(block: np.ndarray) -> int | None:
    counts = block.ndim == 1 and block.size > 1 and bool((np.diff(block) == 1).all())
    return int(block[0]) if counts else None


def _listed(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
