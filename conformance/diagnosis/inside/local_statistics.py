"""A mean, a variance, or a log-sum-exp, of the part that a rank has, where that of all parts along an axis is meant.

Not a sum, which is a partial one, nor an extreme: a stable softmax takes its own one, and makes up for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from conformance.diagnosis.inside.blocks import CLOSE, combined
from conformance.diagnosis.inside.compared import Compared, spoken
from conformance.diagnosis.inside.exchanges import line
from conformance.diagnosis.inside.sureness import FOUND
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause

STATISTICS: dict[str, Callable[..., Any]] = {
    "mean": np.mean,
    "variance": np.var,
    "unbiased variance": partial(np.var, ddof=1),
    "logarithm of the sum of exponentials": lambda x, axis: np.logaddexp.reduce(x, axis=axis),
}


def of_local_statistic(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """Of what a rank has it makes the statistic that one device makes of all; or uses one that was made so."""
    yield from _of_own_part(compared, first) or _used(compared, first)


def _of_own_part(compared: Compared, first: Intermediate) -> list[Cause]:
    """It is the statistic itself, over a dim of its operand that an axis divides, evenly or not."""
    for number in first.sources:
        match = compared.matches[number]
        for (axis, dim), (name, statistic) in product(() if match is None else match.dims, STATISTICS.items()):
            if match is None or not _is(statistic, first, compared.values[number], dim):
                continue
            of_all = statistic(compared.matcher.whole(match), axis=dim)
            if any(_holds(other, of_all) for other in compared.of_twin):
                basis = f"one device has the {name} of all of what {spoken(compared.values[number])} makes"
                return [_said(name, axis, first, basis)]
    return []


def _is(statistic: Callable[..., Any], result: Intermediate, operand: Intermediate, dim: int) -> bool:
    """Whether every rank has the statistic of its own block over a dim."""
    if result.values.keys() != operand.values.keys() or not result.values:
        return False
    return all(
        dim < block.ndim
        and block.shape[dim] > 1
        and np.isfinite(block).all()
        and _same(result.values[rank], statistic(block, axis=dim))
        for rank, block in operand.values.items()
    )


def _holds(value: Intermediate, wanted: np.ndarray) -> bool:
    return any(_same(block, wanted) for block in value.values.values())


def _same(held: np.ndarray, wanted: np.ndarray) -> bool:
    if held.size != wanted.size or not np.isfinite(held).all():
        return False
    slack = CLOSE * float(np.abs(wanted).max(initial=0.0))
    return bool((np.abs(held.ravel() - wanted.ravel()) <= slack).all())


def _used(compared: Compared, first: Intermediate) -> list[Cause]:
    """It is made of equal parts' means, the mean of which is what one device has."""
    for source, (axis, size) in product(first.sources, compared.mesh.sizes):
        held = compared.values[source].values
        whole = len(held) == compared.mesh.devices and len({block.shape for block in held.values()}) == 1
        if size == 1 or compared.matches[source] is not None or not whole:
            continue
        if compared.matcher.found(combined(held, (axis,), compared.mesh, np.mean)) is not None:
            basis = f"over {axis} the mean of what {spoken(compared.values[source])} makes is what one device has"
            return [_said("mean", axis, first, basis)]
    return []


def _said(name: str, axis: str, first: Intermediate, basis: str) -> Cause:
    words = f"the {name} of each rank's own part is used where that of all parts over {axis} is meant"
    said = f"{words}, at {line(first.place)}"
    return Cause(cause=said, axis=axis, confidence=FOUND, axis_confidence=FOUND, basis=basis)
