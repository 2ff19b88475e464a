"""In which order a program keeps the elements along a dim, as it says of what it returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from conformance.contract.implementation import Reordered

Order = tuple[int, ...]  # of each stored element along a dim, its canonical index


def orders_of(observed: Any) -> tuple[Order, ...]:
    """The orders of a step's observations, but for the canonical one, and those that pad or repeat elements."""
    values = observed.values() if isinstance(observed, Mapping) else ()
    return tuple(dict.fromkeys(order for value in values for order in _of_one(value)))


def _of_one(value: Any) -> Iterator[Order]:
    for where in value.index_map.values() if isinstance(value, Reordered) else ():
        order = tuple(int(index) for index in np.asarray(where))
        if sorted(order) == list(range(len(order))) != list(order):
            yield order
