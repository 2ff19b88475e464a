"""Behind rows that are right in another order: where they are none any more, and what they were combined with there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from conformance.diagnosis.inside.blocks import CLOSE, Dims, whole
from conformance.diagnosis.inside.canonical import OTHER_PLACES
from conformance.diagnosis.inside.compared import Compared, spoken
from conformance.diagnosis.inside.kinds import BY_ELEMENT, PRODUCTS
from conformance.diagnosis.inside.operands import placement
from conformance.diagnosis.inside.operations import of_operation
from conformance.diagnosis.inside.pairs import of_pairs
from conformance.diagnosis.inside.sureness import FOUND
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause


@dataclass(frozen=True, kw_only=True)
class _Elsewhere:
    """Of the rows of the operand in a place, how many belong to another place than the one where they are used."""

    place: int
    rows: int
    of: int


def behind_rows(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """What is wrong where `first` and what is made of it have right rows in another order, up to there."""
    later = next(compared.firsts(any_order=True), None)
    if later is None or later.number == first.number or later.axes or not later.place:
        return
    since = f"from {spoken(first)} up to there every row is one that one device has, in its place or in another"
    causes = [*_out_of_order(compared, later), *_mixed(compared, later), *of_pairs(compared, later)]
    yield from causes
    for cause in of_operation(compared, later):
        if cause.place:
            yield replace(cause, cause=f"{cause.cause}; {since}")
        elif not causes:
            yield cause


def _out_of_order(compared: Compared, value: Intermediate) -> Iterator[Cause]:
    """Rows that are combined, one by one, with what stands in the order of one device, and do not stand in it."""
    for counterpart in compared.counterparts(value) if value.operation in BY_ELEMENT else ():
        for elsewhere in _rows_elsewhere(compared, value, counterpart):
            made = spoken(compared.values[value.sources[elsewhere.place]])
            said = f"{OTHER_PLACES}: operand {elsewhere.place} of {spoken(value)}, which {made} makes"
            basis = f"{elsewhere.rows} of {elsewhere.of} rows are what one device has in other rows of that operand"
            basis += "; the other operand is what it is there, in its place"
            yield Cause(cause=said, axis=None, confidence=FOUND, basis=basis)
            return


def _mixed(compared: Compared, value: Intermediate) -> Iterator[Cause]:
    """Rows in one product that one device puts into several, as those of several experts are."""
    if value.operation not in PRODUCTS or len(value.sources) != 1:
        return
    numbers = {counterpart.sources[0] for counterpart in compared.counterparts(value) if counterpart.sources}
    groups = [_rows_of(whole(compared.of_number[number])) for number in numbers if number in compared.of_number]
    for rank, block in compared.values[value.sources[0]].values.items():
        if len(groups) > 1 and _is_mixed(_rows_of(block), groups):
            words = "rows of several groups are multiplied together, which one device multiplies apart"
            basis = (
                f"every row that rank {rank} gives it is one of the {len(groups)} groups there, no group has them all"
            )
            yield Cause(cause=f"{words}: {spoken(value)}", axis=None, confidence=FOUND, basis=basis)
            return


def _rows_of(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)


def _is_mixed(rows: np.ndarray, groups: Sequence[np.ndarray]) -> bool:
    """Whether every row, zeros apart, is in some group, and no group has all of them."""
    common, every = set(range(len(groups))), True
    for row in rows[rows.any(axis=-1)]:
        having = {n for n, group in enumerate(groups) if _has(group, row)}
        common &= having
        every = every and bool(having)
    return every and not common


def _has(group: np.ndarray, row: np.ndarray) -> bool:
    slack = CLOSE * float(np.abs(row).max())
    return group.shape[-1] == row.size and bool((np.abs(group - row).max(axis=-1) <= slack).any())


def _rows_elsewhere(compared: Compared, value: Intermediate, counterpart: Intermediate) -> Iterator[_Elsewhere]:
    """The operand that has rows of other places, where the other of two has its block of what one device has there."""
    if not len(value.sources) == len(counterpart.sources) == 2:
        return
    for place, other in ((0, 1), (1, 0)):
        rows, beside = (compared.values[value.sources[each]] for each in (place, other))
        wanted, as_it_is = (compared.of_number.get(counterpart.sources[each]) for each in (place, other))
        owners = {owner.number for owner in compared.reordered.get(rows.number, ())}
        if wanted is None or as_it_is is None or wanted.number not in owners or beside.number not in compared.right:
            continue
        dims = placement(compared, beside, as_it_is)
        wrong = 0 if dims is None else _misplaced(compared, rows, wanted, as_it_is, dims)
        if wrong:
            length = whole(rows).shape[-1]
            yield _Elsewhere(place=place, rows=wrong, of=sum(block.size // length for block in rows.values.values()))


def _misplaced(compared: Compared, rows: Intermediate, wanted: Intermediate, beside: Intermediate, dims: Dims) -> int:
    """How many rows, zeros apart, are none of those that one device has where it combines them with the other operand.

    That is divided as `dims` says. It has as many rows, or fewer, repeated along some dims, or one number for each row.
    """
    length, every = whole(rows).shape[-1], whole(wanted)
    keys = _keys(whole(beside), every)
    if keys is None:
        return 0
    places, of_every = keys
    every, wrong = every.reshape(-1, length), 0
    for rank, block in rows.values.items():
        at = compared.matcher.block(replace(beside, values={0: places}), dims, rank)
        at = at[..., 0] if at.ndim == block.ndim else at
        if at.size != block.size // length and at.ndim != block.ndim - 1:
            return 0
        at = at.reshape(-1) if at.size == block.size // length else np.broadcast_to(at, block.shape[:-1]).reshape(-1)
        held = block.reshape(-1, length)
        wrong += sum(
            bool(row.any()) and not _has(every[of_every == key], row) for key, row in zip(at, held, strict=True)
        )
    return wrong


def _keys(beside: np.ndarray, every: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The number of the row of `beside` at each of its elements, and at each row of `every`; None where they differ."""
    rows = every.shape[:-1]
    if beside.ndim == every.ndim and all(n in (1, size) for n, size in zip(beside.shape, every.shape, strict=True)):
        numbers = np.arange(math.prod(beside.shape[:-1]), dtype=float).reshape(beside.shape[:-1])
        return np.broadcast_to(numbers[..., None], beside.shape), np.broadcast_to(numbers, rows).reshape(-1)
    if beside.size == math.prod(rows):
        in_order = np.arange(beside.size, dtype=float)
        return in_order.reshape(beside.shape), in_order
    return None
