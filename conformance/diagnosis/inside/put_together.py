"""Right values side by side in one buffer, to be summed over ranks together: in no order that one device has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from conformance.diagnosis.inside.kinds import COPIES, JOINS, REDUCTIONS, SCALES
from conformance.evidence.intermediates import Intermediate


def is_put_together(value: Intermediate, parts: Sequence[Intermediate]) -> bool:
    """Whether every rank has the elements of all parts in it, and besides nothing but zeros that fill it up."""
    if value.operation not in JOINS or not parts or any(part.values.keys() != value.values.keys() for part in parts):
        return False
    return all(
        np.array_equal(_elements([block]), _elements([part.values[rank] for part in parts]))
        for rank, block in value.values.items()
    )


def is_summed(value: Intermediate, program: Sequence[Intermediate]) -> bool:
    """Whether what is put together is summed over ranks next, scaled perhaps."""
    made = {value.number}
    for other in program:
        if made.intersection(other.sources):
            if other.operation in REDUCTIONS:
                return True
            if other.operation in (*SCALES, *COPIES):
                made.add(other.number)
    return False


def _elements(blocks: Sequence[np.ndarray]) -> np.ndarray:
    every = np.concatenate([block.ravel() for block in blocks])
    return np.sort(every[every != 0])
