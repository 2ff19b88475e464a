"""What a program must offer to be compiled at a size at which it cannot run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from conformance.contract.budget import Allowance
from conformance.contract.implementation import Declarations
from conformance.contract.mesh import Mesh


class ScaleProgram(Protocol):
    """An implementation whose step takes shapes for arrays."""

    def abstract(self, mesh: Any) -> tuple[Any, Mapping[str, Any], Mapping[str, Any]]:
        """(jitted step, state, batch) on a `jax.sharding.Mesh` of devices that need not exist.

        State is {"parameters": {name: ...}, "optimizer": {slot: {name: ...}}, "count": ...}; every leaf of state and
        batch is a `jax.ShapeDtypeStruct` with a sharding. The step returns (new state, observations).
        """

    def declare(self) -> Declarations:
        """As of any implementation."""


@dataclass(frozen=True, kw_only=True)
class StageProgram:
    """The program of one rank of a pipeline, and what its schedule has it send to its neighbours.

    ranks     that run the same program, or one that needs no more
    layers    of the rank
    mesh      of its own devices, without the pipeline axis
    program   its whole step, as of any program
    budget    of what is sent between its own devices
    messages  that one device sends along the pipeline axis in a step, of so many elements each
    """

    rank: int
    ranks: int
    layers: int
    mesh: Mesh
    program: ScaleProgram
    budget: Sequence[Allowance]
    messages: int
    message_elements: int
    message_dtype: str


@runtime_checkable
class StagedProgram(Protocol):
    """An implementation whose ranks of the pipeline axis have programs of their own."""

    def stage_programs(self) -> Iterator[StageProgram]:
        """One for each that is distinct, in the order of the ranks."""
