"""What a training step communicates, by formula: transfers in elements, added up to bytes. Framework-neutral."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from conformance.contract.implementation import CollectiveKind, Phase, Traffic
from conformance.contract.mesh import Mesh

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "int32": 4, "int64": 8}


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """`calls` collectives of one kind, each with `elements` per device (the larger of operand and result)."""

    kind: CollectiveKind
    axes: tuple[str, ...]
    phase: Phase
    elements: int
    dtype: str
    calls: int = 1


def total(transfers: Iterable[Transfer], mesh: Mesh) -> tuple[Traffic, ...]:
    """Calls and bytes per phase, kind and axes. An axis of size 1 carries nothing."""
    totals: dict[tuple[Phase, CollectiveKind, tuple[str, ...]], tuple[int, int]] = {}
    for transfer in transfers:
        axes = tuple(axis for axis in mesh.axes if axis in transfer.axes and mesh.size(axis) > 1)
        if axes and transfer.calls:
            calls, size = totals.get((transfer.phase, transfer.kind, axes), (0, 0))
            moved = transfer.calls * transfer.elements * BYTES[transfer.dtype]
            totals[transfer.phase, transfer.kind, axes] = (calls + transfer.calls, size + moved)
    return tuple(
        Traffic(kind=kind, axes=axes, phase=phase, calls=calls, bytes=size)
        for (phase, kind, axes), (calls, size) in totals.items()
    )
