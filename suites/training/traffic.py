"""What a training step communicates, by formula: transfers in elements, added up to bytes. Framework-neutral."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from conformance.contract.implementation import Traffic
from conformance.contract.mesh import Mesh

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "int32": 4, "int64": 8}


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """`calls` collectives of one kind, each with `elements` per device (the larger of operand and result)."""

    kind: str
    axes: tuple[str, ...]
    phase: str
    elements: int
    dtype: str
    calls: int = 1


def total(transfers: Iterable[Transfer], mesh: Mesh) -> tuple[Traffic, ...]:
    """Calls and bytes per phase, kind and axes. An axis of size 1 carries nothing."""
    found: dict[tuple[str, str, tuple[str, ...]], tuple[int, int]] = {}
    for one in transfers:
        axes = tuple(axis for axis in mesh.axes if axis in one.axes and mesh.size(axis) > 1)
        if axes and one.calls:
            calls, size = found.get((one.phase, one.kind, axes), (0, 0))
            moved = one.calls * one.elements * BYTES[one.dtype]
            found[one.phase, one.kind, axes] = (calls + one.calls, size + moved)
    return tuple(
        Traffic(kind=kind, axes=axes, phase=phase, calls=calls, bytes=size)
        for (phase, kind, axes), (calls, size) in found.items()
    )
