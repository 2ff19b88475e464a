"""Partial sums: values that add up, over ranks, to what one device has, and are used before they are summed."""

from __future__ import annotations

import numpy as np

from conformance.diagnosis.inside.blocks import CLOSE, Match, whole
from conformance.diagnosis.inside.compared import Compared, spoken
from conformance.diagnosis.inside.exchanges import line
from conformance.diagnosis.inside.kinds import REDUCTIONS, SCALES
from conformance.diagnosis.inside.multiples import constant
from conformance.diagnosis.inside.sureness import FOUND
from conformance.diagnosis.inside.way import made_of
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause

LACKS = "reduction missing"
OF_SHARD = f"{LACKS}, or a shard taken for the whole"  # where gradients and parameters are sharded


def is_part(compared: Compared, number: int) -> bool:
    """Whether a value is a partial sum of which several ranks have a part that is not zero.

    What but one rank has lies there, as in a pipeline that is not full yet. In the backward pass an element that but
    one rank has is its own, as the rows of a table in parts are; in the forward pass they are still to be summed.
    """
    match, value = compared.matches.get(number), compared.values[number]
    for axis in () if match is None else match.partial:
        for group in compared.mesh.groups(axis):
            held = [value.values[rank] != 0 for rank in group if rank in value.values]
            owners = np.sum(held, axis=0) if value.phase == "backward" else np.array(sum(x.any() for x in held))
            if (owners > 1).any():
                return True
    return False


def of_partial(compared: Compared, first: Intermediate, number: int) -> Cause:
    """What is made of a partial sum is wrong: it is used too early, or summed later with what is no part of it."""
    source, match = compared.values[number], compared.matches[number]
    axes = () if match is None else match.partial
    if _is_divided_apart(first, source) and is_summed_later(compared, first, axes):
        return _of_means(first, source, axes)
    if not _is_added_to(compared, first, source, axes) or not is_summed_later(compared, first, axes):
        return lacks_reduction(source, match, f"is used as if it were whole, at {line(first.place)}")
    size = int(np.prod([compared.mesh.size(axis) for axis in axes]))
    return Cause(
        cause=f"counted {size} times: what is whole on every rank is added to a partial sum, which is summed over "
        f"{' and '.join(axes)} afterwards, at {line(first.place)}",
        axis=axes[0],
        confidence=FOUND,
        axis_confidence=FOUND,
        basis=f"{spoken(first)} adds the same numbers on all ranks to what {spoken(source)} makes",
    )


def _is_divided_apart(first: Intermediate, source: Intermediate) -> bool:
    """Whether every rank multiplies its part by a number, and not all by the same one."""
    if first.operation not in SCALES or first.values.keys() != source.values.keys():
        return False
    pairs = [(first.values[rank], block) for rank, block in source.values.items() if block.any()]
    factors = [1.0 if np.array_equal(x, block) else constant({0: x}, {0: block}) for x, block in pairs]
    known = [factor for factor in factors if factor is not None]
    return len(known) == len(factors) > 1 and not np.allclose(known, known[0], rtol=CLOSE)


def _of_means(first: Intermediate, source: Intermediate, axes: tuple[str, ...]) -> Cause:
    """Parts of a sum that are divided before they are summed."""
    over = " and ".join(axes)
    said = f"every rank divides its part of a sum over {over} by a number of its own, as in a mean of means"
    basis = f"what {spoken(source)} makes adds up, over {over}, to what one device has; what is made of it is summed "
    basis += f"over {over} after {spoken(first)}"
    return Cause(
        cause=f"{said}, at {line(first.place)}",
        axis=axes[0],
        confidence=FOUND,
        axis_confidence=FOUND,
        basis=basis,
    )


def lacks_reduction(value: Intermediate, match: Match | None, said: str) -> Cause:
    """Of a value that is a partial sum."""
    partial = () if match is None else match.partial
    axes = " and ".join(partial)
    lacks = OF_SHARD if value.phase == "update" else LACKS
    return Cause(
        cause=f"{lacks}: a partial sum over {axes} {said}",
        axis=partial[0],
        confidence=FOUND,
        axis_confidence=FOUND,
        basis=f"what {spoken(value)} makes adds up, over {axes}, to what one device has",
    )


def _is_added_to(compared: Compared, first: Intermediate, source: Intermediate, axes: tuple[str, ...]) -> bool:
    """Whether an operation adds the same to a partial sum on all ranks."""
    if any(first.values[rank].size != block.size for rank, block in source.values.items()):
        return False
    added = {rank: first.values[rank].ravel() - block.ravel() for rank, block in source.values.items()}
    rounding = 1e-12 * max(float(np.abs(block).max(initial=0.0)) for block in first.values.values())
    groups = [group for axis in axes for group in compared.mesh.groups(axis)]
    same = all(np.allclose(added[rank], added[group[0]], 0, rounding) for group in groups for rank in group)
    return same and any(float(np.abs(block).max(initial=0.0)) > rounding for block in added.values())


def is_summed_later(compared: Compared, first: Intermediate, axes: tuple[str, ...], as_it_is: bool = False) -> bool:
    """Whether what an operation makes goes into a sum over these axes; `as_it_is`, element by element."""
    for value in made_of(compared.wide.values, first):
        if value.operation in REDUCTIONS and {*axes} <= {*value.axes}:
            return not as_it_is or whole(value).size == whole(first).size
    return False
