"""The first wrong value that a right program must have in common with one device: up to it may lie what need not be."""

from __future__ import annotations

from collections import Counter

from conformance.diagnosis.inside.compared import Compared, origin
from conformance.diagnosis.inside.kinds import BUFFERS, CHOICES, COPIES, CUTS, EXTREMES
from conformance.evidence.intermediates import Intermediate


def first_owed(compared: Compared, first: Intermediate) -> Intermediate:
    """Of those that `first` goes into.

    It is one that the same line makes as often on one device, and that is a block of what it makes there. What a loop
    over ranks makes has no counterpart, nor has a halo, or a buffer up to where indices read it. The last value on the
    way where there is none, as there is none where the other program is another one altogether.
    """
    made, other = Counter(map(origin, compared.on_way)), Counter(map(origin, compared.of_twin))
    into, loose, last = {first.number}, set[int](), first
    for value in compared.on_way:
        if value.number in compared.right or not (value.number in into or into.intersection(value.sources)):
            continue
        into.add(value.number)
        last = value
        read = value.operation in CHOICES
        if value.operation in BUFFERS or (loose.intersection(value.sources) and not read):
            loose.add(value.number)
        elif made[origin(value)] == other[origin(value)] and _is_block(compared, value):
            return value
    return last


def _is_block(compared: Compared, value: Intermediate) -> bool:
    """Whether, by its shape, it is a block of what the same line computes on one device."""
    shapes = {block.shape for block in value.values.values()}
    return value.operation not in (*CUTS, *EXTREMES, *COPIES) and any(
        True
        for whole in compared.counterparts(value)
        for shape in shapes
        for _ in compared.matcher.placements(whole, shape)
    )
