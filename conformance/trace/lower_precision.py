"""Where a step that should compute in float64 rounds to fewer bits, read from its data flow.

Law: what is rounded is a real number. Whole numbers, masks, random bits and what has but few digits are the same in
float32; where a step holds nothing else in it, nothing is named, nor what no result depends on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from conformance.evidence.arithmetic import BITS, COMPUTATION, Operation
from conformance.trace.dataflow import Node

MOST = 3  # operations that are named
CONSTANT = "constant"
CONVERSIONS = ("convert_element_type", "reduce_precision", "_to_copy", "copy")
_DIGITS = 2.0**12
_FILLER = 1e30  # what stands for infinity in masks


def lower_precision(nodes: Sequence[Node], results: Iterable[Node]) -> tuple[Operation, ...]:
    """The first operations on the way to the results that round to the narrowest dtype of all; none in float64.

    A conversion is named only where nothing is computed with what it leaves.
    """
    reached = _reached(results)
    found = [one for one in nodes if one.rounds and BITS.get(one.dtype, 64) < 64 and id(one) in reached]
    narrowest = min((BITS[one.dtype] for one in found), default=0)
    found = [one for one in found if BITS[one.dtype] == narrowest]
    computing = [one for one in found if one.name not in CONVERSIONS] or found
    first: dict[str, Node] = {}
    for one in computing:
        first.setdefault(one.place or one.name, one)
    return tuple(
        Operation(role=COMPUTATION, tensor="", operation=one.name, dtype=one.dtype, place=one.place)
        for one in list(first.values())[:MOST]
    )


def settle(node: Node, operands: Sequence[Node], *, moves: bool, whole: bool, drawn: bool) -> None:
    """Say of a node whether it rounds real numbers.

    moves   the operation repeats elements of its operands
    whole   it makes whole numbers of whole numbers
    drawn   it draws random bits
    """
    node.operands = list(operands)
    floating = [one for one in operands if one.dtype in BITS]
    varying = [one for one in operands if one.name != CONSTANT]
    node.drawn = node.dtype != "bool" and (drawn or (bool(varying) and all(one.drawn for one in varying)))
    node.exact = whole and all(one.exact for one in floating)
    widest = max((BITS[one.dtype] for one in floating), default=0)
    converts = widest > BITS.get(node.dtype, 64)
    node.rounds = (converts or not moves) and not node.exact and not node.drawn


def is_exact(values: np.ndarray) -> bool:
    """Whether all are numbers of few digits: whole ones, masks, powers of two; or stand for infinity."""
    real = values[np.isfinite(values) & (np.abs(values) < _FILLER)].astype(np.float64)
    return bool((np.frexp(real)[0] * _DIGITS % 1 == 0).all())


def _reached(results: Iterable[Node]) -> set[int]:
    """What the values of some results depend on; through a comparison or an index no value passes."""
    pending, seen = list(results), set()
    while pending:
        node = pending.pop()
        if id(node) not in seen and node.dtype in BITS:
            seen.add(id(node))
            pending += node.operands
    return seen
