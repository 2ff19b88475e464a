"""What a training step communicates, by formula: transfers in elements, added up to bytes. Framework-neutral."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from conformance.contract.implementation import CollectiveKind, Phase, Portion, Traffic
from conformance.contract.mesh import Mesh

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "int32": 4, "int64": 8}


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """`calls` collectives of one kind, each with `elements` per device (the larger of operand and result).

    tensor   what is communicated: `gradients/<name>`, say, or what it is of where it is no parameter's
    at_most  how much travels depends on the values: this is the most
    formula  elements and calls in words
    source   paper and section, or the rule that it follows from
    """

    kind: CollectiveKind
    axes: tuple[str, ...]
    phase: Phase
    elements: int
    dtype: str
    calls: int = 1
    tensor: str = ""
    at_most: bool = False
    formula: str = ""
    source: str = ""


def total(transfers: Iterable[Transfer], mesh: Mesh) -> tuple[Traffic, ...]:
    """Calls and bytes per phase, kind, axes and dtype. An axis of size 1 carries nothing."""
    groups: dict[tuple[Phase, CollectiveKind, tuple[str, ...], str, bool], list[Portion]] = {}
    for transfer in transfers:
        axes = tuple(axis for axis in mesh.axes if axis in transfer.axes and mesh.size(axis) > 1)
        if axes and transfer.calls:
            key = (transfer.phase, transfer.kind, axes, transfer.dtype, transfer.at_most)
            size = transfer.elements * BYTES[transfer.dtype]
            groups.setdefault(key, []).append(Portion(tensor=transfer.tensor, calls=transfer.calls, bytes=size))
    return tuple(
        Traffic(
            kind=kind,
            axes=axes,
            phase=phase,
            dtype=dtype,
            at_most=at_most,
            calls=sum(portion.calls for portion in portions),
            bytes=sum(portion.calls * portion.bytes for portion in portions),
            portions=tuple(portions),
        )
        for (phase, kind, axes, dtype, at_most), portions in groups.items()
    )
