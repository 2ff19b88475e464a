"""A request: what somebody asks of a capture, read and checked once, for either framework."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.capture import names
from conformance.capture.orders import Orders
from conformance.capture.records import FORMAT
from conformance.contract.mesh import Mesh
from conformance.contract.placements import read_placements, written


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `conformance.capture`, as it documents them, and the orders of a recorder."""

    folder: Path
    steps: int
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    placements: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    modules: Sequence[str] | None = None
    replicated_axes: tuple[str, ...] = ()
    still: tuple[str, ...] = ()
    orders: Orders = field(default_factory=Orders)

    @classmethod
    def read(cls, folder: Path, steps: int, orders: Orders, **said: Any) -> Request:
        """Raises ValueError, in one sentence, for what cannot be."""
        if steps < 1:
            raise ValueError(f"A capture of {steps} steps shows nothing: give 1 or more.")
        said["names"] = names.read(said.get("names") or {})
        given = said.get("placements") or {}
        said["placements"] = {pattern: written(read_placements(where)) for pattern, where in given.items()}
        return cls(folder=folder, steps=steps, orders=orders, **said)

    def fields(self) -> dict[str, Any]:
        """Those that go into the record of every process as they are."""
        return {
            "format": FORMAT,
            "command": list(sys.argv),
            "member": self.orders.member,
            "steps": self.steps,
            "names": self.names,
            "placements": self.placements,
            "replicated_axes": self.replicated_axes,
            "still": self.still,
        }


def plain_mesh(mesh: Any) -> Mesh | None:
    """A mesh that is given as text or as axis -> size; None for one of a framework. Raises MeshError."""
    if isinstance(mesh, Mesh):
        return mesh
    if isinstance(mesh, str):
        return Mesh.parse(mesh)
    return Mesh(sizes=tuple(mesh.items())) if isinstance(mesh, dict) else None
