"""A right value in the place of another: the one operand of a wrong operation that one device does not give it there.

A value of another microbatch or of another step, or two tensors that are exchanged: all that the operation is given is
right, and the same line on one device is given the same but for one operand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from conformance.diagnosis.inside.blocks import Dims, agree, filled, is_trivial, whole
from conformance.diagnosis.inside.compared import Compared, origin, spoken
from conformance.diagnosis.inside.indices import is_counting, is_whole
from conformance.diagnosis.inside.kinds import ADDS
from conformance.diagnosis.inside.sureness import FOUND
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause


@dataclass(frozen=True, kw_only=True)
class Mistaken:
    """The operand in a place, as values of one device: the one that is `given`, and the one that is `wanted` there."""

    place: int
    given: Intermediate
    wanted: Intermediate

    @property
    def same_line(self) -> bool:
        """Whether the same line makes both, at different times."""
        return origin(self.given) == origin(self.wanted)

    @property
    def words(self) -> str:
        """What it is, and what it should be."""
        if self.same_line:
            return f"what {spoken(self.given)} makes, of another turn than one device takes there"
        return f"what {spoken(self.given)} makes, where one device takes what {spoken(self.wanted)} makes"


def of_another_value(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """Right operands, of which one is not what one device gives it there: of another microbatch, stale, or swapped."""
    mistaken = mistaken_operand(compared, first)
    if mistaken is None:
        yield from _of_two_turns(compared, first)
    else:
        turn = "a value of another microbatch, or a stale one, is used"
        words = turn if mistaken.same_line else "another value than on one device is used"
        said = f"{words}: operand {mistaken.place} of {spoken(first)} is {mistaken.words}"
        basis = "all that it is given is right, and all but this operand is what the same line is given on one device"
        yield Cause(cause=said, axis=None, confidence=FOUND, basis=basis)


def _of_two_turns(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """Two operands that one device gives to the same line, and never both at once: which is wrong is not known."""
    every = [each for counterpart in compared.counterparts(first) for each in _of_one(compared, first, counterpart, ())]
    if len(first.sources) == 2 == len({each.place for each in every}) and all(each.same_line for each in every):
        taken = [spoken(given) for given in map(compared.known, first.sources) if given is not None]
        words = f"values of two turns are combined, of two microbatches perhaps: {spoken(first)}"
        basis = f"one device gives it what {taken[0]} makes, and what {taken[1]} makes, but never these two together"
        yield Cause(cause=words, axis=None, confidence=FOUND, basis=basis)


def mistaken_operand(compared: Compared, value: Intermediate) -> Mistaken | None:
    """None where it is not certain which: several turns of the line on one device have something in common with it.

    Where a value of one microbatch meets that of another, it is the one that other turns take in its place too.
    """
    repeated = [place for place in range(len(value.sources)) if _is_repeated(compared, value, place)]
    mistaken = [
        each
        for counterpart in _counterparts(compared, value)
        for each in _of_one(compared, value, counterpart, repeated)
        if not repeated or each.place in repeated
    ]
    if not mistaken or len({each.place for each in mistaken}) > 1:
        return None
    return mistaken[0]


def _is_repeated(compared: Compared, value: Intermediate, place: int) -> bool:
    """Whether turns of its line take the same value there more often than on one device, and one of those there never.

    Then it is no value for all turns, as a parameter is, nor are they the turns of a part of the layers.
    """
    shape = whole(value).shape
    alike = (x for x in compared.counterparts(value) if any(True for _ in compared.matcher.placements(x, shape)))
    here = [compared.known(turn.sources[place]) for turn in compared.turns(value) if len(turn.sources) > place]
    there = [compared.of_number.get(turn.sources[place]) for turn in alike if len(turn.sources) > place]
    taken, wanted = ([whole(each) for each in some if each is not None] for some in (here, there))
    missed = any(not is_trivial(filled(each)) and not _times(each, taken) for each in wanted)
    return missed and any(_times(each, taken) > max(_times(each, wanted), 1) for each in taken)


def _times(x: np.ndarray, among: list[np.ndarray]) -> int:
    return sum(np.array_equal(x, other) for other in among)


def _counterparts(compared: Compared, value: Intermediate) -> list[Intermediate]:
    """The same turn of the line on one device, where a rank takes as many; else all of its turns."""
    theirs, mine = compared.counterparts(value), [turn.number for turn in compared.turns(value)]
    return [theirs[mine.index(value.number)]] if len(theirs) == len(mine) else theirs


def _of_one(
    compared: Compared, value: Intermediate, counterpart: Intermediate, repeated: Sequence[int]
) -> Iterator[Mistaken]:
    """The operand that is another one there, where all others are the same."""
    if not 1 < len(value.sources) == len(counterpart.sources):
        return
    others: list[Mistaken] = []
    for place, (own, number) in enumerate(zip(value.sources, counterpart.sources, strict=True)):
        wanted, given = compared.of_number.get(number), compared.known(own) or _of_turns(compared, value, place)
        if wanted is None or given is None:
            return
        if given.number != wanted.number and placement(compared, compared.values[own], wanted) is None:
            others.append(Mistaken(place=place, given=given, wanted=wanted))
    if len(others) == 1 and _tells(compared, value, others[0], others[0].place in repeated):
        yield others[0]


def _of_turns(compared: Compared, value: Intermediate, place: int) -> Intermediate | None:
    """Whole numbers, which are known again only among those that other turns of the line take in that place."""
    own = compared.values[value.sources[place]]
    taken = [turn.sources[place] for turn in compared.counterparts(value) if len(turn.sources) > place]
    every = (compared.of_number.get(number) for number in taken if is_whole(own))
    return next((other for other in every if other and placement(compared, own, other) is not None), None)


def _tells(compared: Compared, value: Intermediate, other: Mistaken, repeated: bool) -> bool:
    """Whether it could stand there by its shape; terms of a sum may be added in any order.

    What is wanted may be zeros where it is the one that is given that is seen to be too often there.
    """
    shapes = {block.shape for block in compared.values[value.sources[other.place]].values.values()}
    fits = any(True for shape in shapes for _ in compared.matcher.placements(other.wanted, shape))
    lines = {origin(given) for given in map(compared.known, value.sources) if given is not None}
    shows = repeated or not is_trivial(filled(whole(other.wanted))) or is_counting(whole(other.wanted))
    return fits and shows and (value.operation not in ADDS or len(lines) > 1)


def placement(compared: Compared, value: Intermediate, of: Intermediate) -> Dims | None:
    """How the ranks have the blocks of a whole value; None where they have others."""
    largest, same = float(abs(whole(of)).max(initial=0.0)), {r: filled(block) for r, block in value.values.items()}
    ways = list(compared.matcher.placements(of, next(iter(same.values())).shape))
    for dims in ways:
        if agree(same, {rank: filled(compared.matcher.block(of, dims, rank)) for rank in same}.__getitem__, largest):
            return dims
    is_whole = not ways and agree(same, dict.fromkeys(same, filled(whole(of))).__getitem__, largest)
    return () if is_whole else None  # in another shape
