"""Whole numbers on the way to a wrong value: indices, labels, counts, positions.

Many of them are the same by chance, so that nothing is said of them but where the first ones part from those of one
device, and only where something that is made of them is wrong. Random bits are none of them: words too large to say
where something is, and what is made of them bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.blocks import filled
from conformance.diagnosis.inside.kinds import BITWISE, SECTIONS
from conformance.diagnosis.inside.matching import Matcher
from conformance.evidence.intermediates import Intermediate, Intermediates

DIFFERENT = 3  # numbers of a value at the least: ones and zeros are a mask


def counting(twin: Intermediates, mesh: Mesh) -> Matcher:
    """Of the whole numbers of one device."""
    return Matcher(twin, mesh, is_counting)


def parted(wide: Intermediates, twin: Intermediates, matcher: Matcher, way: set[int]) -> Iterator[Intermediate]:
    """Whole numbers on the way that one device does not have, and of which it has nothing that is made of them.

    Up to the first line of which one device has as much: what is made of that is wrong because of it. To cut whole
    numbers that are right is no mistake by itself.
    """
    right: set[int] = set()
    wrong = []
    for value in sorted(wide.values, key=lambda value: -value.number):
        if value.number not in way or not is_whole(value):
            continue
        if value.number in right or (_tells(value) and matcher.match(value) is not None):
            right.update((value.number, *value.sources))
        elif _tells(value) and value.operation not in BITWISE:
            wrong.append(value)
    lines = {(value.operation, value.place) for value in twin.values}
    for value in reversed(wrong):
        if value.operation not in (*SECTIONS, "squeeze"):
            yield value
            if (value.operation, value.place) in lines:
                return


def chain(wide: Intermediates, of: Intermediate) -> set[int]:
    """The numbers of whole numbers that an operation is given, and of those that they are made of."""
    values = {value.number: value for value in wide.values}
    numbers, pending = set[int](), list(of.sources)
    while pending:
        value = values.get(pending.pop())
        if value is not None and is_whole(value) and value.number not in numbers:
            numbers.add(value.number)
            pending += value.sources
    return numbers


def is_whole(value: Intermediate) -> bool:
    """Whether the program has it in whole numbers."""
    return value.dtype.startswith("int")


def is_counting(x: np.ndarray) -> bool:
    """Whether it holds whole numbers of several sizes."""
    return bool(np.isfinite(x).all()) and bool((x == np.round(x)).all()) and len(np.unique(x)) >= DIFFERENT


def _tells(value: Intermediate) -> bool:
    """Whether they may be indices: as the matcher has them, without what is too large for one."""
    return all(is_counting(filled(block)) for block in value.values.values())
