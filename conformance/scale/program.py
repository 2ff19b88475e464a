"""What a program must offer to be compiled at a size at which it cannot run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from conformance.contract.implementation import Declarations


class ScaleProgram(Protocol):
    """An implementation whose step takes shapes for arrays."""

    def abstract(self, mesh: Any) -> tuple[Any, Mapping[str, Any], Mapping[str, Any]]:
        """(jitted step, state, batch) on a `jax.sharding.Mesh` of devices that need not exist.

        State is {"parameters": {name: ...}, "optimizer": {slot: {name: ...}}, "count": ...}; every leaf of state and
        batch is a `jax.ShapeDtypeStruct` with a sharding. The step returns (new state, observations).
        """

    def declare(self) -> Declarations:
        """As of any implementation."""
