"""Right elements in the wrong places: an operation that moves elements and changes none, and what takes them next.

A program may keep its elements in an order of its own as long as what it combines them with has the same. Where the
next line that computes with them has on one device the same elements in another order, and makes other numbers of them,
the order is why.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.diagnosis.inside.blocks import CLOSE, filled, whole
from conformance.diagnosis.inside.compared import Compared, spoken
from conformance.diagnosis.inside.kinds import COPIES, MOVES
from conformance.diagnosis.inside.operands import placement
from conformance.diagnosis.inside.sureness import FOUND, ORDER
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause


def of_moved(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """The operation moves elements; surely wrong where what takes them is shown to want another order."""
    words = f"right elements in the wrong places: {spoken(first)}"
    taker = _taker(compared, first)
    if taker is None:
        basis = "its operand is right, and all that it does is to move elements"
        yield Cause(cause=words, axis=None, confidence=ORDER, basis=basis)
        return
    basis = f"its operand is right; {spoken(taker)} is given the same elements in another order on one device"
    yield Cause(cause=f"{words}, which {spoken(taker)} takes", axis=None, confidence=FOUND, basis=basis)


def _taker(compared: Compared, first: Intermediate) -> Intermediate | None:
    """The first operation that makes other numbers of them than one device makes of the same in another order."""
    turned = {first.number}
    for value in compared.wide.values:
        if not turned.intersection(value.sources):
            continue
        if value.operation in (*MOVES, *COPIES):
            turned.add(value.number)
            continue
        for counterpart in compared.counterparts(value):
            if _takes_turned(compared, value, counterpart, turned):
                if not _same_elements(value, counterpart):
                    return None if value.number in compared.right else value
                turned.add(value.number)
                break
        else:
            return None
    return None


def _takes_turned(compared: Compared, value: Intermediate, counterpart: Intermediate, turned: set[int]) -> bool:
    """Whether one of its operands is another order of what one device takes there, and all others are as there."""
    if len(value.sources) != len(counterpart.sources):
        return False
    for own, number in zip(value.sources, counterpart.sources, strict=True):
        held, wanted = compared.values[own], compared.of_number.get(number)
        if wanted is None or (placement(compared, held, wanted) is None) is not (own in turned):
            return False
        if own in turned and not _same_elements(held, wanted):
            return False
    return True


def _same_elements(value: Intermediate, of: Intermediate) -> bool:
    """Whether all ranks together have the elements of a whole value, each as often as any other."""
    held = np.sort(np.concatenate([filled(block).ravel() for block in value.values.values()]))
    wanted = np.sort(filled(whole(of)).ravel())
    if not wanted.size or held.size % wanted.size or not np.isfinite(held).all():
        return False
    every = np.repeat(wanted, held.size // wanted.size)
    return bool(every.size) and float(np.abs(held - every).max()) <= CLOSE * float(np.abs(every).max())
