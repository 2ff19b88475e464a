"""The values of one device in the order in which the failing program keeps them: a zigzag of chunks of a row, say.

Then what a rank holds is one block again. Every value that has a dim of that length is put in that order, whatever its
dims mean; those of another meaning are known again as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from conformance.evidence.intermediates import Intermediate, Intermediates
from conformance.evidence.orders import Order

TWINS_KEPT = 4  # two lanes, and two programs of each in turn


@lru_cache(maxsize=TWINS_KEPT)
def stored(twin: Intermediates, orders: tuple[Order, ...]) -> Intermediates:
    """One device as if it kept its values so; the very object where there is no such order."""
    if not orders:
        return twin
    values, inputs = (tuple(_stored(value, orders) for value in part) for part in (twin.values, twin.inputs))
    return replace(twin, values=values, inputs=inputs)


def _stored(value: Intermediate, orders: Sequence[Order]) -> Intermediate:
    return replace(value, values={rank: in_orders(block, orders) for rank, block in value.values.items()})


def in_orders(x: np.ndarray, orders: Sequence[Order]) -> np.ndarray:
    """An array with all dims of the length of an order in that order; rows that are laid end to end in dim 0, each."""
    for dim, size in enumerate(x.shape):
        order = next((order for order in orders if size == len(order)), None)
        ends = next((order for order in orders if dim == 0 and size and size % len(order) == 0), None)
        if order is not None:
            x = np.take(x, order, axis=dim)
        elif ends is not None:
            x = x.reshape(-1, len(ends), *x.shape[1:])[:, list(ends)].reshape(x.shape)
    return x
