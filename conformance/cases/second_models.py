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
    candidates = [other for other in suite.contracts if other.name in entry.classes and _other_sizes(other, contract)]
    path = entry.classes[contract.name]
    candidates.sort(key=lambda other: (entry.classes[other.name] != path, sum(map(math.prod, other.shapes.values()))))
    return tuple((other.name, entry.classes[other.name]) for other in candidates[:MOST])


def _other_sizes(contract: Contract, other: Contract) -> bool:
    return any(contract.shapes.get(name, shape) != shape for name, shape in other.shapes.items())
