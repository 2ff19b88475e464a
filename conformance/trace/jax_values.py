"""The intermediate values of a traced JAX step, on every device, from one evaluation of the whole program."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import jax
import numpy as np

from conformance.contract.implementation import Phase
from conformance.contract.mesh import Mesh
from conformance.evidence.intermediates import FEWEST, MOST_BYTES, MOST_ELEMENTS, Exchange, Intermediate, Intermediates
from conformance.trace.jax_places import Owner, Place

MOST_TURNS = 12  # of a loop whose turns are kept one by one; of a longer one their values are stacked
Numbers = frozenset[int]


@dataclass(frozen=True, kw_only=True)
class _Noted:
    """An operation whose result leaves the program; `inside` a shard_map its devices are stacked along dim 0."""

    operation: str
    place: str
    phase: Phase
    sources: tuple[int, ...]  # in the order of the operands
    axes: tuple[str, ...]
    inside: bool


@dataclass(frozen=True, kw_only=True)
class _Exchanged:
    """A collective whose operand, of so many dims, and result leave the program under these numbers."""

    place: Place
    given: int
    got: int
    ndim: int


class ValueRecorder(Owner):
    """Keeps every floating-point result of an evaluation; `performed` is the owner that carries collectives out."""

    def __init__(self, performed: Owner, mesh: Mesh) -> None:
        self.noted: dict[int, _Noted] = {}
        self.exchanges: list[_Exchanged] = []
        self._numbers = count()
        self.observed: dict[str, Numbers] = {}
        self._bytes = 0
        self._performed, self._mesh = performed, mesh
        self._known: dict[int, tuple[Any, Numbers]] = {}  # id of a value -> it, and the numbers that it stands for
        self._scopes: list[list[tuple[int, Any]]] = [[]]
        self._leaving: tuple[list[int], list[Numbers]] = ([], [])

    def __call__(self, place: Place, operands: list[Any]) -> list[Any]:
        return self._performed(place, operands)

    def note(self, place: Place, operands: list[Any], results: list[Any]) -> None:
        if place.call is not None and place.call.kind != "axis_index":
            self._exchanged(place, operands, results)
        made_of = [self.numbers(operand) for operand in operands]
        sources = frozenset[int]().union(*made_of)
        for result in results:
            if not self._is_kept(result):
                self._know(result, sources)  # a mask, an index: what is made of it is made of its sources
                continue
            number = self._handed_out(result)
            self.noted[number] = self._described(place, made_of)
            self._know(result, frozenset({number}))

    def _handed_out(self, value: Any) -> int:
        """The number under which a value leaves the program."""
        number = next(self._numbers)
        self._scopes[-1].append((number, value))
        return number

    def _exchanged(self, place: Place, operands: list[Any], results: list[Any]) -> None:
        for given, got in zip(operands, results, strict=True):
            if all(self._fits(value) and jax.numpy.issubdtype(value.dtype, jax.numpy.number) for value in (given, got)):
                numbers = self._handed_out(given), self._handed_out(got)
                self.exchanges.append(_Exchanged(place=place, given=numbers[0], got=numbers[1], ndim=given.ndim))

    def _described(self, place: Place, made_of: list[Numbers]) -> _Noted:
        call, sizes = place.call, place.frame.sizes
        axes = () if call is None else tuple(a for a in self._mesh.axes if a in call.axes and self._mesh.size(a) > 1)
        return _Noted(
            operation=place.eqn.primitive.name if call is None else call.kind,
            place=place.line,
            phase=place.frame.phase,
            sources=tuple(dict.fromkeys(number for operand in made_of for number in sorted(operand))),
            axes=axes,
            inside=sizes is not None,
        )

    def enter(self, place: Place, inside: list[Any], outside: list[Any]) -> None:
        for value, known in zip(inside, outside, strict=False):
            self._know(value, self.numbers(known))
        self._scopes.append([])

    def leave(self, results: list[Any]) -> list[Any]:
        kept = self._scopes.pop()
        self._leaving = [number for number, _ in kept], [self.numbers(result) for result in results]
        return [value for _, value in kept]

    def left(self, place: Place, results: list[Any], extra: list[Any]) -> None:
        numbers, made_of = self._leaving
        self._scopes[-1] += zip(numbers, extra, strict=True)
        for result, sources in zip(results, made_of, strict=True):
            self._know(result, sources)

    def turn_by_turn(self, turns: int) -> bool:
        return 0 < turns <= MOST_TURNS

    def stands_for(self, value: Any, others: list[Any]) -> None:
        self._know(value, frozenset[int]().union(*map(self.numbers, others)))

    def numbers(self, value: Any) -> Numbers:
        """What a value stands for; nothing for an input of the step."""
        known = self._known.get(id(value))
        return known[1] if known is not None else frozenset()

    def _know(self, value: Any, numbers: Numbers) -> None:
        if isinstance(value, jax.Array):  # tracers too; plain numbers may be one object in many places
            self._known[id(value)] = (value, numbers)

    @property
    def kept(self) -> dict[int, Any]:
        """number -> value, of what the whole evaluation has left."""
        return dict(self._scopes[0])

    def observe(self, observations: Mapping[str, Any]) -> None:
        """These are observations of the step."""
        self.observed = {name: self.numbers(value) for name, value in observations.items()}

    def _is_kept(self, value: Any) -> bool:
        if not hasattr(value, "dtype"):
            return False
        index = value.dtype in (jax.numpy.int32, jax.numpy.int64) and math.prod(value.shape) >= FEWEST
        return (index or jax.numpy.issubdtype(value.dtype, jax.numpy.floating)) and self._fits(value)

    def _fits(self, value: Any) -> bool:
        elements = math.prod(value.shape)
        self._bytes += 8 * elements
        return elements <= MOST_ELEMENTS and self._bytes <= MOST_BYTES


def intermediates(recorder: ValueRecorder, kept: Mapping[int, Any], mesh: Mesh) -> Intermediates:
    """The evaluated values, device by device; those outside of a shard_map are whole on all of them."""
    noted = recorder.noted
    return Intermediates(
        values=tuple(
            Intermediate(
                number=number,
                operation=noted[number].operation,
                place=noted[number].place,
                phase=noted[number].phase,
                sources=noted[number].sources,
                axes=noted[number].axes,
                dtype=str(value.dtype),
                values=_by_rank(np.asarray(value).astype(np.float64), noted[number].inside, mesh),
            )
            for number, value in sorted(kept.items())
            if number in noted
        ),
        exchanges=tuple(_exchange(each, kept, mesh) for each in recorder.exchanges if each.got in kept),
        observed={name: tuple(sorted(numbers)) for name, numbers in recorder.observed.items()},
    )


def _exchange(exchanged: _Exchanged, kept: Mapping[int, Any], mesh: Mesh) -> Exchange:
    given, got = (np.asarray(kept[number]).astype(np.float64) for number in (exchanged.given, exchanged.got))
    call, turns = exchanged.place.call, given.ndim - exchanged.ndim - 1
    assert call is not None
    return Exchange(
        kind=call.kind,
        reduction=call.reduction,
        axes=call.axes,
        place=exchanged.place.line,
        phase=exchanged.place.frame.phase,
        dim=call.dim + turns,
        concat=call.concat + turns,
        tiled=call.tiled,
        pairs=call.pairs,
        given=_by_rank(given, True, mesh),
        got=_by_rank(got, True, mesh),
    )


def _by_rank(value: np.ndarray, inside: bool, mesh: Mesh) -> dict[int, np.ndarray]:
    if not inside:
        return dict.fromkeys(range(mesh.devices), value)
    return {rank: value[rank] for rank in range(mesh.devices)} if len(value) == mesh.devices else {}
