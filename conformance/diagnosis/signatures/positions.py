"""What the positions along an axis hold of a tensor: copies, shards, or rows for which each would care."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.diagnosis.signatures.suspect import EXPLAINED, DivergedTensor
from conformance.evidence.gather import selector


@dataclass(frozen=True, kw_only=True)
class Off:
    """Where along an axis a tensor is off by one factor: on these positions, and on the others it is right."""

    factor: float
    positions: list[int]


def off_on_positions(
    suspect: DivergedTensor, axis: str, factor_of: Callable[[Any, np.ndarray], float | None]
) -> Off | None:
    """`factor_of` (which elements, what is held of them) says by what factor a wrong part is off, None: by no factor.

    None where a wrong part is off by none or by one of its own, or where a position holds right parts and wrong ones.
    """
    wrong: dict[int, list[float]] = {}
    right: set[int] = set()
    for position, where, held in _parts(suspect, axis):
        error = float(np.abs(held - suspect.expected[where]).max(initial=0.0))
        if error <= suspect.unexplained:
            right |= {position} if held.size else set()
            continue
        factor = factor_of(where, held) if error > EXPLAINED * suspect.unexplained else None
        if factor is None:
            return None
        wrong.setdefault(position, []).append(factor)
    factors = [factor for of_position in wrong.values() for factor in of_position]
    if not wrong or not right or right & wrong.keys() or not _alike(factors):
        return None
    return Off(factor=factors[0], positions=sorted(wrong))


def _alike(factors: Sequence[float]) -> bool:
    return float(np.ptp(factors)) <= 1e-3 * float(np.abs(factors).max())


def _parts(suspect: DivergedTensor, axis: str) -> Iterator[tuple[int, Any, np.ndarray]]:
    """(position, which elements, what is held of them) of blocks.

    What all hold whole and alike is cut into the rows for which each would care if they were divided.
    """
    blocks = suspect.blocks
    alike = all(
        block.value.shape == suspect.expected.shape
        and np.abs(block.value - suspect.value).max(initial=0.0) <= suspect.unexplained
        for block in blocks.values()
    )
    if not alike:
        for rank, block in blocks.items():
            yield suspect.mesh.coordinates(rank)[axis], selector(block.index), block.value.astype(np.float64)
    elif suspect.expected.ndim:
        width = -(-len(suspect.expected) // suspect.mesh.size(axis))
        for position in range(suspect.mesh.size(axis)):
            rows = slice(position * width, (position + 1) * width)
            yield position, rows, suspect.value[rows]
