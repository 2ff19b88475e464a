"""The phase of a training step from the scopes in which an operation stands."""

from __future__ import annotations

import re

from conformance.contract.implementation import Phase


def phase_of(scopes: str) -> Phase:
    """`update` in a scope of that name, `backward` in a transposition or a scope `backward`, else `forward`.

    A forward pass that is computed again for the backward pass belongs to it.
    """
    if re.search(r"\bupdate\b", scopes):
        return "update"
    return "backward" if re.search(r"\btranspose\(|\bbackward\b|\brematted_computation\b", scopes) else "forward"
