"""Whole numbers on the way to a wrong value: indices, labels, counts, positions.

Many of them are the same by chance, so that nothing is said of them but where the first ones part from those of one
device, and only where something that is made of them is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.matching import Matcher
from conformance.evidence.intermediates import Intermediate, Intermediates

DIFFERENT = 3  # numbers of a value at the least: ones and zeros are a mask


def parted(wide: Intermediates, twin: Intermediates, mesh: Mesh, way: set[int]) -> Iterator[Intermediate]:
    """Whole numbers on the way that one device does not have, made of such as it has."""
    matcher = Matcher(twin, mesh, is_counting)
    known: set[int] = set()
    for value in wide.values:
        if value.number not in way or not is_whole(value):
            continue
        told = all(is_counting(block) for block in value.values.values())
        if not told or matcher.match(value) is not None:
            known.add(value.number)
        elif all(source in known or not _is_index(wide, source) for source in value.sources):
            yield value


def is_whole(value: Intermediate) -> bool:
    """Whether the program has it in whole numbers."""
    return value.dtype.startswith("int")


def is_counting(x: np.ndarray) -> bool:
    """Whether it holds whole numbers of several sizes."""
    return bool(np.isfinite(x).all()) and bool((x == np.round(x)).all()) and len(np.unique(x)) >= DIFFERENT


def _is_index(wide: Intermediates, number: int) -> bool:
    return any(value.number == number and is_whole(value) for value in wide.values)
