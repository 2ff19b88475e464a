"""Intermediate values of one training step: what every operation made, on every rank, and of what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from conformance.contract.implementation import Phase
from conformance.evidence.orders import Order

INPUT = "input"
APART = 1 << 24  # between the numbers of two programs of one step
FEWEST = 4  # whole numbers that are kept: fewer are sizes and offsets
MOST_ELEMENTS = 1 << 16  # of a value that is kept
MOST_BYTES = 1 << 28  # of all that are kept of one step, on one rank


@dataclass(frozen=True, kw_only=True)
class Intermediate:
    """The result of one operation.

    number     in program order
    operation  as the framework calls it; for a collective its kind
    place      the line of the user's program, `file:line`; empty where it is not known; the name of an input
    sources    numbers of the values that it was made of, operand by operand; inputs of the step have none
    axes       the mesh axes of a collective, empty for anything else
    dtype      in which the program has it; empty where that is not known. Of whole numbers, what may be indices is kept
    values     rank -> float64 array, its own block; where a loop ran, its turns are stacked along dim 0
    """

    number: int
    operation: str
    place: str
    phase: Phase
    sources: tuple[int, ...]
    axes: tuple[str, ...] = ()
    dtype: str = ""
    values: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One collective that ran: what every rank handed in, and what it got.

    reduction  how values are combined; None where they are moved only
    dim        the dim that is gathered, scattered or split; `concat` the dim that an all-to-all concatenates
    tiled      blocks lie along an existing dim; otherwise along a dim of their own
    pairs      (source, destination) of a permutation, as places along the axes
    given, got  rank -> float64 array; where a loop ran, its turns are stacked along dim 0, which `dim` counts
    """

    kind: str
    reduction: str | None
    axes: tuple[str, ...]
    place: str
    phase: Phase
    dim: int = 0
    concat: int = 0
    tiled: bool = True
    pairs: tuple[tuple[int, int], ...] = ()
    given: Mapping[int, np.ndarray] = field(default_factory=dict)
    got: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Intermediates:
    """Those of one step in program order, its collectives, and the numbers of what each observation was made of.

    Two are never compared: a step is known by its object.

    inputs   what one device begins with, whole: parameters and batch, under negative numbers
    orders   in which the program keeps elements along a dim, other than the canonical one
    unseen   of a reference, what it begins with besides, under numbers of its own: no value is known again by it
    """

    values: tuple[Intermediate, ...]
    observed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    exchanges: tuple[Exchange, ...] = ()
    inputs: tuple[Intermediate, ...] = ()
    orders: tuple[Order, ...] = ()
    unseen: tuple[Intermediate, ...] = ()


def as_inputs(arrays: Mapping[str, np.ndarray]) -> tuple[Intermediate, ...]:
    """Arrays that no operation has made; large ones are left out, as results are."""
    return tuple(
        Intermediate(
            number=-1 - place, operation=INPUT, place=name, phase="forward", sources=(), values={0: value.astype(float)}
        )
        for place, (name, value) in enumerate(arrays.items())
        if value.size <= MOST_ELEMENTS and value.dtype.kind in "fiub"
    )


def of_programs(parts: Sequence[Intermediates], programs: Sequence[Hashable]) -> Intermediates:
    """One from those of all ranks, which run several programs: so the ranks of different stages of a pipeline do.

    programs   what tells the program of each part; values of the n-th begin at n times `APART`
    """
    distinct = [
        united([part for part, own in zip(parts, programs, strict=True) if own == program])
        for program in dict.fromkeys(programs)
    ]
    moved = [_renumbered(program, APART * place) for place, program in enumerate(distinct)]
    observed: dict[str, tuple[int, ...]] = {}
    for each in moved:
        observed |= {name: (*observed.get(name, ()), *numbers) for name, numbers in each.observed.items()}
    return replace(
        distinct[0],
        values=tuple(value for each in moved for value in each.values),
        observed=observed,
        exchanges=distinct[0].exchanges if len(distinct) == 1 else (),
        orders=tuple(dict.fromkeys(order for program in distinct for order in program.orders)),
    )


def _renumbered(program: Intermediates, by: int) -> Intermediates:
    values = (
        replace(value, number=value.number + by, sources=tuple(number + by for number in value.sources))
        for value in program.values
    )
    observed = {name: tuple(number + by for number in numbers) for name, numbers in program.observed.items()}
    return replace(program, values=tuple(values), observed=observed)


def united(parts: Sequence[Intermediates]) -> Intermediates:
    """One program from those of all ranks, as the first rank has it.

    An operation is the same on another rank if it comes from the same line, in the same phase, as the same of its like.
    """
    first, others = parts[0], [_by_place(part.values) for part in parts[1:]]
    values = []
    for place, value in _by_place(first.values).items():
        same = [other[place].values for other in others if place in other]
        values.append(replace(value, values=_together([value.values, *same])))
    exchanges, elsewhere = [], [_by_place(part.exchanges) for part in parts[1:]]
    for place, exchange in _by_place(first.exchanges).items():
        alike = [exchange, *(other[place] for other in elsewhere if place in other)]
        given, got = _together([each.given for each in alike]), _together([each.got for each in alike])
        exchanges.append(replace(exchange, given=given, got=got))
    return replace(first, values=tuple(values), exchanges=tuple(exchanges))


def _together(parts: Sequence[Mapping[int, np.ndarray]]) -> dict[int, np.ndarray]:
    return {rank: x for part in parts for rank, x in part.items()}


Ran = TypeVar("Ran", Intermediate, Exchange)


def _by_place(ran: Sequence[Ran]) -> dict[tuple[str, str, Phase, int], Ran]:
    met: Counter[tuple[str, str, Phase]] = Counter()
    by_place = {}
    for value in ran:
        name = value.operation if isinstance(value, Intermediate) else value.kind
        key: tuple[str, str, Phase] = (name, value.place, value.phase)
        by_place[*key, met[key]] = value
        met[key] += 1
    return by_place
