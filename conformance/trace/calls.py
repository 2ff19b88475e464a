"""The collectives that were seen in one step, added up."""

from __future__ import annotations

from collections import Counter

from conformance.contract.implementation import CollectiveKind, Phase, Portion, Traffic

Key = tuple[CollectiveKind, tuple[str, ...], Phase, str]


class Calls:
    """Calls by kind, axes, phase and dtype, in the order in which each first came; within those by their size."""

    def __init__(self) -> None:
        self._sizes: dict[Key, Counter[int]] = {}

    def add(
        self, kind: CollectiveKind, axes: tuple[str, ...], phase: Phase, dtype: str, size: int, calls: int = 1
    ) -> None:
        """So many calls of so many bytes each, the larger of operand and result on one device."""
        self._sizes.setdefault((kind, axes, phase, dtype), Counter())[size] += calls

    def traffic(self) -> tuple[Traffic, ...]:
        return tuple(
            Traffic(
                kind=kind,
                axes=axes,
                phase=phase,
                dtype=dtype,
                calls=sizes.total(),
                bytes=sum(size * calls for size, calls in sizes.items()),
                portions=tuple(Portion(tensor="", calls=calls, bytes=size) for size, calls in sizes.items()),
            )
            for (kind, axes, phase, dtype), sizes in self._sizes.items()
        )
