"""Where a step that should compute in float64 rounds to fewer bits, read from its data flow.

Law: what is rounded is a real number. Whole numbers, masks, random bits and what has but few digits are the same in
float32; where a step holds nothing else in it, nothing is named, nor what no result depends on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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
    narrow = [node for node in nodes if node.rounds and BITS.get(node.dtype, 64) < 64 and id(node) in reached]
    narrowest = min((BITS[node.dtype] for node in narrow), default=0)
    narrow = [node for node in narrow if BITS[node.dtype] == narrowest]
    computing = [node for node in narrow if node.name not in CONVERSIONS] or narrow
    first: dict[str, Node] = {}
    for node in computing:
        first.setdefault(node.place or node.name, node)
    return tuple(
        Operation(role=COMPUTATION, tensor="", operation=node.name, dtype=node.dtype, place=node.place)
        for node in list(first.values())[:MOST]
    )


def unaffected(nodes: Sequence[Node], results: Mapping[str, Node]) -> frozenset[str]:
    """The results on whose way nothing rounds to fewer bits than float64."""
    narrow = {id(node) for node in nodes if node.rounds and BITS.get(node.dtype, 64) < 64}
    return frozenset(name for name, node in results.items() if not narrow & _reached([node]))


def settle(node: Node, operands: Sequence[Node], *, moves: bool, whole: bool, drawn: bool) -> None:
    """Say of a node whether it rounds real numbers.

    moves   the operation repeats elements of its operands
    whole   it makes whole numbers of whole numbers
    drawn   it draws random bits
    """
    node.operands = list(operands)
    floating = [operand for operand in operands if operand.dtype in BITS]
    varying = [operand for operand in operands if operand.name != CONSTANT]
    node.drawn = node.dtype != "bool" and (drawn or (bool(varying) and all(operand.drawn for operand in varying)))
    node.exact = whole and all(operand.exact for operand in floating)
    widest = max((BITS[operand.dtype] for operand in floating), default=0)
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
