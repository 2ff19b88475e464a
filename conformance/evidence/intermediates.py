"""Intermediate values of one training step: what every operation made, on every rank, and of what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from conformance.contract.implementation import Phase

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
    phase: Phase
    sources: tuple[int, ...]
    axes: tuple[str, ...] = ()
    values: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Intermediates:
    """Those of one step in program order, and the numbers of what each observation was made of."""

    values: tuple[Intermediate, ...]
    observed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def united(parts: Sequence[Intermediates]) -> Intermediates:
    """One program from those of all ranks, as the first rank has it.

    An operation is the same on another rank if it comes from the same line, in the same phase, as the same of its like.
    """
    first, others = parts[0], [_by_place(part) for part in parts[1:]]
    values = []
    for place, value in _by_place(first).items():
        same = [other[place].values for other in others if place in other]
        values.append(
            replace(value, values={rank: x for copies in (value.values, *same) for rank, x in copies.items()})
        )
    return replace(first, values=tuple(values))


def _by_place(part: Intermediates) -> dict[tuple[str, str, Phase, int], Intermediate]:
    met: Counter[tuple[str, str, Phase]] = Counter()
    by_place = {}
    for value in part.values:
        key = (value.operation, value.place, value.phase)
        by_place[*key, met[key]] = value
        met[key] += 1
    return by_place
