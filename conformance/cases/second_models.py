"""Second models: the other contracts of a suite, of other sizes, that an implementation honours too."""

from __future__ import annotations

import math

from conformance.cases.suite import ImplementationEntry, Suite
from conformance.contract.contract import Contract

MOST = 3  # that are offered; the first that is not refused on the mesh is taken


def second_models(suite: Suite, entry: ImplementationEntry, contract: Contract) -> tuple[tuple[str, str], ...]:
    """(contract, 'module:Class') of each: by the same class first, small ones first.

    Of other sizes is a contract with a parameter of the same name and another shape.
    """
    found = [one for one in suite.contracts if one.name in entry.classes and _other_sizes(one, contract)]
    path = entry.classes[contract.name]
    found.sort(key=lambda one: (entry.classes[one.name] != path, sum(map(math.prod, one.shapes.values()))))
    return tuple((one.name, entry.classes[one.name]) for one in found[:MOST])


def _other_sizes(one: Contract, other: Contract) -> bool:
    return any(one.shapes.get(name, shape) != shape for name, shape in other.shapes.items())
