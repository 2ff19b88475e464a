"""The parts of a batch: the rows that ranks have, and those of slices and microbatches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from conformance.contract.contract import Recipe
from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.evidence.gather import selector


def parts_of(recipe: Recipe) -> Iterator[tuple[str, Sequence[int]]]:
    """What a step divides the rows of every rank into, of which there are several: the name of a part, their shares."""
    for part, shares in (
        ("slice", recipe.shares or (1,) * recipe.accumulation),
        ("microbatch", (1,) * recipe.microbatches),
    ):
        if len(shares) > 1:
            yield part, shares


def cut(block: np.ndarray, shares: Sequence[int]) -> list[np.ndarray]:
    """The rows of a rank in consecutive parts, in proportion to `shares`."""
    return np.split(block, np.cumsum(shares)[:-1] * len(block) // sum(shares))


def rows_of_ranks(suspect: DivergedTensor, rows: int) -> Mapping[int, np.ndarray]:
    """rank -> the rows that it has, told by an observation of all rows; all of them where none tells."""
    for name, observed in suspect.case_run.steps[0].items():
        if name.startswith("outputs/") and observed.shape[:1] == (rows,):
            every = np.arange(rows)
            return {rank: every[selector(block.index[:1])] for block in observed.blocks for rank in block.ranks}
    return dict.fromkeys(range(suspect.mesh.devices), np.arange(rows))


def rows_along(suspect: DivergedTensor, axis: str, held: Mapping[int, np.ndarray], rows: int) -> Iterator[np.ndarray]:
    """For each position along an axis, which rows the ranks there have."""
    for position in range(suspect.mesh.size(axis)):
        has = np.zeros(rows, dtype=bool)
        for rank, part in held.items():
            if suspect.mesh.coordinates(rank)[axis] == position:
                has[part] = True
        yield has
