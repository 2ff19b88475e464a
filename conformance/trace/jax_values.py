"""The values inside a traced JAX step, device by device, as they are noted while it is evaluated."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from conformance.contract.mesh import Mesh
from conformance.evidence.intermediates import FEWEST, MOST_BYTES, MOST_ELEMENTS, Exchange, Intermediate, Intermediates
from conformance.trace.jax_devices import Devices
from conformance.trace.jax_ordered import is_key
from conformance.trace.jax_places import Path, Place

Numbers = frozenset[int]  # of the noted values that a value stands for; none for an input of the step


class ValueRecorder:
    """Keeps what every operation makes that is a number of a model, or may be an index."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._values: list[Intermediate] = []
        self._exchanges: list[Exchange] = []
        self._lines: dict[Path, str] = {}
        self._bytes = 0
        self._silent = False

    def note(self, place: Place, made_of: Sequence[Numbers], results: Sequence[Any], devices: Devices) -> list[Numbers]:
        """What each result stands for: itself, or where it is not kept what it was made of."""
        sources = tuple(dict.fromkeys(number for operand in made_of for number in sorted(operand)))
        ranks = devices.positions(self._mesh) if any(map(self._is_kept, results)) else {}
        return [
            self._kept(place, sources, result, ranks) if self._is_kept(result) else frozenset(sources)
            for result in results
        ]

    def _kept(self, place: Place, sources: tuple[int, ...], result: np.ndarray, ranks: Mapping[int, int]) -> Numbers:
        number = len(self._values)
        self._bytes += 8 * result[0].size
        self._values.append(
            Intermediate(
                number=number,
                operation=place.eqn.primitive.name if place.call is None else place.call.kind,
                place=self._line(place),
                phase=place.frame.phase,
                sources=sources,
                axes=() if place.call is None else self._axes(place.call.axes),
                dtype=str(result.dtype),
                values=_by_rank(result, ranks),
            )
        )
        return frozenset({number})

    def exchange(self, place: Place, given: Sequence[Any], got: Sequence[Any], devices: Devices) -> None:
        """The operands and results of a collective."""
        call = place.call
        if call is None or self._silent:
            return
        for operand, result in zip(given, got, strict=False):
            if not all(map(self._fits, (operand, result))) or result.dtype.kind == "b":
                continue
            ranks = devices.positions(self._mesh)
            self._exchanges.append(
                Exchange(
                    kind=call.kind,
                    reduction=call.reduction,
                    axes=call.axes,
                    place=self._line(place),
                    phase=place.frame.phase,
                    dim=call.dim,
                    concat=call.concat,
                    tiled=call.tiled,
                    pairs=call.pairs,
                    given=_by_rank(operand, ranks),
                    got=_by_rank(result, ranks),
                )
            )

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Nothing is noted meanwhile: the later turns of a long loop."""
        before, self._silent = self._silent, True
        try:
            yield
        finally:
            self._silent = before

    def intermediates(self, observed: Mapping[str, Numbers]) -> Intermediates:
        """All that was noted; `observed` says what each observation stands for."""
        return Intermediates(
            values=tuple(self._values),
            exchanges=tuple(self._exchanges),
            observed={name: tuple(sorted(numbers)) for name, numbers in observed.items()},
        )

    def _axes(self, axes: Sequence[str]) -> tuple[str, ...]:
        return tuple(axis for axis in self._mesh.axes if axis in axes and self._mesh.size(axis) > 1)

    def _line(self, place: Place) -> str:
        if place.frame.path not in self._lines:
            self._lines[place.frame.path] = place.line
        return self._lines[place.frame.path]

    def _is_kept(self, value: Any) -> bool:
        if self._silent or is_key(value):
            return False
        index = value.dtype in (np.int32, np.int64) and math.prod(value.shape[1:]) >= FEWEST
        return bool(index or jax.numpy.issubdtype(value.dtype, np.floating)) and self._fits(value)

    def _fits(self, value: Any) -> bool:
        elements: int = math.prod(value.shape[1:])
        return elements <= MOST_ELEMENTS and self._bytes + 8 * elements <= MOST_BYTES


def _by_rank(value: np.ndarray, ranks: Mapping[int, int]) -> dict[int, np.ndarray]:
    if not value.strides[0] and len(value):  # the same on all of them
        return dict.fromkeys(ranks, np.array(value[0], np.float64))
    wide = value.astype(np.float64)
    return {rank: wide[position] for rank, position in ranks.items()}
