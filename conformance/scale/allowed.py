"""What a budget allows in all, by whatever its entries are held together by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from conformance.contract.budget import Allowance
from conformance.contract.mesh import Mesh
from conformance.traffic.collective_op import Buffer

Key = TypeVar("Key")


def allowed_bytes(
    budget: Sequence[Allowance], mesh: Mesh, key: Callable[[Allowance, tuple[str, ...]], Key]
) -> dict[Key, int]:
    """Payload bytes of one device and step by `key(allowance, axes)`. An axis of size 1 carries nothing."""
    allowed: dict[Key, int] = {}
    for allowance in budget:
        if axes := tuple(axis for axis in mesh.axes if axis in allowance.axes and mesh.size(axis) > 1):
            size = Buffer(dtype=allowance.dtype, elements=allowance.elements).bytes * allowance.calls
            allowed[key(allowance, axes)] = allowed.get(key(allowance, axes), 0) + size
    return allowed
