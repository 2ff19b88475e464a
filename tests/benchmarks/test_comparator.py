"""The comparator beside the largest difference of two arrays, which is the least that a comparison can do."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.evidence.evidence import Block, Observed
from conformance.evidence.gather import deviation
from conformance.evidence.tolerance import EPSILON, excess

ROWS, COLUMNS, RANKS = 1024, 512, 4
MESH = Mesh.parse(f"tensor={RANKS}")


def _observed(value: np.ndarray, kind: str) -> Observed:
    """A tensor that is replicated, in shards of rows, or a pending sum, on all ranks."""
    whole = (slice(0, ROWS), slice(0, COLUMNS))
    part = ROWS // RANKS
    blocks = {
        "replicated": [Block(ranks=tuple(range(RANKS)), index=whole, value=value)],
        "sharded": [
            Block(ranks=(rank,), index=(slice(rank * part, (rank + 1) * part), whole[1]), value=rows)
            for rank, rows in enumerate(np.split(value, RANKS))
        ],
        "a sum": [Block(ranks=(rank,), index=whole, value=value / RANKS, partial=("tensor",)) for rank in range(RANKS)],
    }[kind]
    return Observed(shape=value.shape, dtype="float32", blocks=tuple(blocks))


@pytest.mark.parametrize("kind", ["replicated", "sharded", "a sum"])
def test_a_tensor_is_compared_beside_one_difference(beside, kind: str) -> None:
    expected = np.random.default_rng(0).standard_normal((ROWS, COLUMNS))
    value = expected.astype(np.float32)
    observed, magnitude, noise = _observed(value, kind), np.abs(expected), np.abs(expected) * 1e-8

    def compare() -> None:
        error = deviation(observed, expected, MESH)
        assert excess(error, magnitude, noise, EPSILON["float32"]).ratio < 2

    beside(compare, lambda: np.abs(value - expected).max())
