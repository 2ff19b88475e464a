"""Intermediate values of one training step: what every operation made, on every rank, and of what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

MOST_ELEMENTS = 1 << 16  # of a value that is kept
MOST_BYTES = 1 << 28  # of all that are kept of one step, on one rank


@dataclass(frozen=True, kw_only=True)
class Intermediate:
    """The result of one operation.

    number     in program order
    operation  as the framework calls it; for a collective its kind
    place      the line of the user's program, `file:line`; empty where it is not known
    sources    numbers of the values that it was made of; inputs of the step have none
    axes       the mesh axes of a collective, empty for anything else
    values     rank -> float64 array, its own block; where a loop ran, its turns are stacked along dim 0
    """

    number: int
    operation: str
    place: str
    phase: str
    sources: tuple[int, ...]
    axes: tuple[str, ...] = ()
    values: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Intermediates:
    """Those of one step in program order, and the numbers of what each observation was made of."""

    values: tuple[Intermediate, ...]
    observed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def is_kept(value: np.ndarray, kept_bytes: int) -> bool:
    """Whether a value is kept, when so many bytes are already."""
    return value.size <= MOST_ELEMENTS and kept_bytes + value.nbytes <= MOST_BYTES
