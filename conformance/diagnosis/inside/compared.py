"""The values of a failing step beside those of one device: which are right, and which is the first that is not."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.blocks import CLOSE, Match, filled, is_trivial, whole
from conformance.diagnosis.inside.exchanges import line
from conformance.diagnosis.inside.indices import chain, counting, is_whole, parted
from conformance.diagnosis.inside.kinds import (
    ARRANGED,
    BUFFERS,
    CHOICES,
    COPIES,
    CUTS,
    EXTREMES,
    JOINS,
    MESSAGE,
    SELECTIONS,
    SORTS,
)
from conformance.diagnosis.inside.matching import Matcher
from conformance.diagnosis.inside.messages import is_unlinked, linked, ringed
from conformance.diagnosis.inside.orders import stored
from conformance.diagnosis.inside.put_together import is_put_together, is_summed
from conformance.diagnosis.inside.rows import of_rows
from conformance.diagnosis.inside.sections import Sections
from conformance.diagnosis.inside.way import in_order, way
from conformance.evidence.intermediates import APART, Intermediate, Intermediates

FEW_LINES = 0.25  # of those of a program
MATCHERS_KEPT = 4  # two lanes, and two programs of each in turn


class Compared:
    """Every value on the way to a tensor, matched; of the whole step where it is none of its observations."""

    def __init__(self, wide: Intermediates, twin: Intermediates, mesh: Mesh, tensor: str | None) -> None:
        self.wide, self.twin, self.mesh, self.tensor = linked(wide), stored(twin, wide.orders), mesh, tensor
        self.matcher = _matcher(self.twin, twin, mesh, ringed(self.wide, mesh))
        self.values = {value.number: value for value in self.wide.values}
        self.way = way(self.wide, tensor)
        self.matches: dict[int, Match | None] = self._matched()
        self.right = self._right()
        self.reordered: dict[int, tuple[Intermediate, ...]] = {}  # of rows in another order, whose they are

    def _matched(self) -> dict[int, Match | None]:
        """What each is; the block of another rank only where a message has brought it, or what it is made of."""
        matches: dict[int, Match | None] = {}
        for number in sorted(self.way):
            value, match = self.values[number], self.matcher.match(self.values[number])
            sources = [matches.get(source) for source in value.sources]
            came = value.operation == MESSAGE or any(each and each.moved for each in sources)
            matches[number] = None if match is not None and match.moved and not came else match
        return matches

    def _right(self) -> set[int]:
        """The values on the way that were found, constants, what these are made of, and what has right parts alone."""
        right: set[int] = set()
        parts: dict[int, set[int]] = {}
        for number in sorted(self.way, reverse=True):
            value = self.values[number]
            constant = not value.sources and all((block == block.flat[:1]).all() for block in value.values.values())
            known = self.matches[number] is not None or number in right or constant or self._is_order(value)
            if known or (number in parts and parts[number] <= right):
                right.add(number)
                right.update(() if value.operation in (*CUTS, *CHOICES) else value.sources)
            for source in value.sources if value.operation in (*CUTS, *CHOICES) else ():
                parts.setdefault(source, set()).add(number)
        return right

    def _is_order(self, value: Intermediate) -> bool:
        """Whether it is the order of something sorted, or its beginning, as one device has it: that is right too."""
        operations = {self.values[number].operation for number in value.sources if value.operation in CUTS}
        is_sorted = value.operation in SORTS or (bool(operations) and operations <= {*SORTS})
        return is_sorted and is_whole(value) and self.counting.match(value) is not None

    def firsts(self, any_order: bool = False) -> Iterator[Intermediate]:
        """The wrong values on the way that are made of right ones alone.

        any_order   a value is none of them whose rows are all right, in whatever order
        """
        sound = set(self.right)  # with what shows nothing, such as a mask, and is made of such
        for value in self.on_way:
            if self._exchanged(value):
                yield value
            elif is_unlinked(value):
                continue  # where it is wrong, so is what another rank has sent, which was not seen
            elif value.number not in sound and sound.issuperset(value.sources):
                trivial = all(is_trivial(filled(block)) for block in value.values.values())
                ordered = trivial or self._is_cut_alike(value) or self._has_right_sections(value)
                ordered = ordered or self.is_put_together(value)
                if ordered or (any_order and self._has_right_rows(value)):
                    sound.add(value.number)
                else:
                    yield value

    def is_put_together(self, value: Intermediate) -> bool:
        """A buffer of different values, all of which are right: it is none itself."""
        wholes = {match.whole for match in map(self.matches.get, value.sources) if match is not None}
        if not (len(wholes) == len(value.sources) > 1 and is_summed(value, self.wide.values)):
            return False
        return is_put_together(value, [self.values[number] for number in value.sources])

    def is_filled(self, value: Intermediate) -> bool:
        """A buffer of zeros and what it is given, nothing else: one device may fill it further. So is a read of one."""
        if value.operation in CHOICES:
            return any(self.values[number].operation in BUFFERS for number in value.sources)
        given = [block.ravel() for number in value.sources for block in self.values[number].values.values()]
        known = np.concatenate([np.zeros(1), *given])
        return value.operation in BUFFERS and all(np.isin(block, known).all() for block in value.values.values())

    def lacks_senders(self) -> bool:
        """Whether a message on the way brings something wrong, and it is not known what was sent."""
        return any(is_unlinked(value) and value.number not in self.right for value in self.on_way)

    def indices(self, of: Intermediate | None = None) -> Iterator[Intermediate]:
        """Whole numbers on the way, or that an operation is given, which one device does not have, in their order."""
        return parted(self.wide, self.twin, self.counting, self.way if of is None else chain(self.wide, of))

    @cached_property
    def counting(self) -> Matcher:
        """Finds whole numbers, which many values are by chance."""
        return counting(self.twin, self.mesh)

    def _has_right_rows(self, value: Intermediate) -> bool:
        """Whether they are rows of what its line makes on one device, or of what it is given, which it arranges.

        An input of the step, which has no number in the failing program, may be any of those that one device has.
        """
        given = [owner for number in value.sources for owner in self.owners(number)]
        inputs = [(each,) for each in self.twin.inputs]
        arranged = [tuple(given), *inputs] if value.operation in (*ARRANGED, *SELECTIONS) else []
        self.reordered[value.number] = of_rows(value, [(each,) for each in self.counterparts(value)] + arranged)
        return bool(self.reordered[value.number])

    def owners(self, number: int) -> tuple[Intermediate, ...]:
        """The values of one device that have its rows, in whatever order."""
        known = self.known(number)
        return self.reordered.get(number, ()) or (() if known is None else (known,))

    def _has_right_sections(self, value: Intermediate) -> bool:
        """Whether it is right section by section; of what was put together, whether anything is that is made of it."""
        made = (other for other in self.on_way if value.number in other.sources)
        return any(map(self._is_in_sections, made if value.operation in JOINS else (value,)))

    def _is_in_sections(self, value: Intermediate) -> bool:
        """Whether it is known again in sections: looked for where all that it is made of is right, which is seldom."""
        match = self._sections.match(value, self.counterparts(value))
        if match is not None:
            self.matches[value.number] = match
            self.right.add(value.number)
        return match is not None

    @cached_property
    def _sections(self) -> Sections:
        return Sections(self.twin.values, self.mesh)

    def _is_cut_alike(self, value: Intermediate) -> bool:
        """A part of what is whole on all ranks, the same on all: it is right, whatever is made of it."""
        value = self._copied(value)
        source = self.matches[value.sources[0]] if len(value.sources) == 1 else None
        held = list(value.values.values())
        whole_there = source is not None and not source.dims and not source.partial
        return value.operation in CUTS and whole_there and all(np.array_equal(block, held[0]) for block in held)

    def phase_of(self, value: Intermediate) -> str:
        """The pass that it belongs to, as words to add; in JAX an update is known by standing behind all gradients."""
        if value.phase != "forward":
            return f", {value.phase}{' pass' if value.phase == 'backward' else ''}"
        backward = [other.number for other in self.wide.values if other.phase == "backward"]
        if not backward or value.number < min(backward):
            return ", forward pass"
        return ", update" if value.number > max(backward) else ""

    def known(self, number: int) -> Intermediate | None:
        """The value of one device that one of these is a block of."""
        match = self.matches.get(number)
        return None if match is None else self.of_number.get(match.whole)

    def turns(self, value: Intermediate) -> list[Intermediate]:
        """What the same line makes in the program of a rank, one turn after the other."""
        stage = value.number // APART
        return [other for other in self.on_way if origin(other) == origin(value) and other.number // APART == stage]

    @cached_property
    def of_number(self) -> dict[int, Intermediate]:
        """The values of one device, and what it begins with."""
        return {value.number: value for value in (*self.twin.values, *self.twin.inputs)}

    def joined(self, cut: Intermediate) -> Intermediate:
        """What lays the parts of a value side by side again, all of them: the value in another order. Else the part."""
        for value in self.on_way if cut.operation in CUTS and len(cut.sources) == 1 else ():
            parts = [self.values[number] for number in value.sources]
            of_one = bool(parts) and all(part.sources == cut.sources and part.operation in CUTS for part in parts)
            whole_again = whole(value).size == whole(self.values[cut.sources[0]]).size
            if value.operation in JOINS and cut.number in value.sources and of_one and whole_again:
                return value
        return cut

    def is_extreme(self, value: Intermediate) -> bool:
        """Whether it holds the extremes of something, in another shape perhaps."""
        return self._copied(value).operation in EXTREMES

    def _copied(self, value: Intermediate) -> Intermediate:
        """What a value is a copy of, in another shape perhaps; itself where it is none."""
        while value.operation in COPIES and len(value.sources) == 1:
            value = self.values[value.sources[0]]
        return value

    def whole_buffer(self, first: Intermediate) -> Intermediate:
        """Of a buffer that is filled part by part, what it is in the end."""
        for value in self.on_way:
            filled = value.operation in BUFFERS and value.operation == first.operation
            if filled and value.number > first.number and first.number in value.sources:
                first = value
        return first

    def counterparts(self, value: Intermediate) -> list[Intermediate]:
        """What the same line makes on one device."""
        return self._by_origin.get(origin(value), [])

    @cached_property
    def _by_origin(self) -> dict[tuple[str, str, bool], list[Intermediate]]:
        by_origin: dict[tuple[str, str, bool], list[Intermediate]] = {}
        for value in self.of_twin:
            by_origin.setdefault(origin(value), []).append(value)
        return by_origin

    @cached_property
    def is_apart(self) -> bool:
        """Whether the other program is another one, with few lines in common: those of what both import."""
        here, there = ({value.place for value in program.values} for program in (self.wide, self.twin))
        return len(here & there) < FEW_LINES * len(here)

    def is_of_batch(self, match: Match) -> bool:
        """Whether it is what the step is given besides parameters: rows, which ranks may cut as they like."""
        held = self.matcher.whole(match)
        alike = [each for each in self.twin.inputs if np.array_equal(whole(each), held)]
        return any(f"gradients/{each.place}" not in self.wide.observed for each in alike)

    def lines(self, first: Intermediate, last: Intermediate) -> str:
        """The lines of what lies between two values, file by file."""
        lines: dict[str, set[int]] = {}
        for value in self.on_way:
            if first.number <= value.number <= last.number and value.number not in self.right and value.place:
                file, _, number = line(value.place).rpartition(":")
                lines.setdefault(file, set()).add(int(number))
        return ", ".join(f"{file}:{' '.join(map(str, sorted(numbers)))}" for file, numbers in lines.items())

    @cached_property
    def on_way(self) -> list[Intermediate]:
        return in_order(self.values, self.way)

    @cached_property
    def of_twin(self) -> list[Intermediate]:
        """What one device makes on the way to the tensor."""
        numbers = way(self.twin, self.tensor)
        return [value for value in self.twin.values if value.number in numbers]

    def _exchanged(self, value: Intermediate) -> bool:
        """An all-reduce of one right value that gives another one."""
        if value.operation != "all_reduce" or len(value.sources) != 1:
            return False
        given, made = self.matches[value.sources[0]], self.matches[value.number]
        if given is None or made is None:
            return False
        operand, result = self.matcher.whole(given), self.matcher.whole(made)
        return operand.shape != result.shape or not np.allclose(operand, result, rtol=CLOSE, atol=0)


@lru_cache(maxsize=MATCHERS_KEPT)
def _matcher(twin: Intermediates, as_it_is: Intermediates, mesh: Mesh, rings: frozenset[str]) -> Matcher:
    """Kept for the next mutant of a program: all of them are compared with the same values of one device."""
    others = () if twin is as_it_is else (*as_it_is.values, *as_it_is.inputs)
    return Matcher(twin, mesh, rings=rings, others=others)


def origin(value: Intermediate) -> tuple[str, str, bool]:
    """The operation and its line; a microbatch goes forward after the backward pass of another one."""
    return value.operation, value.place, value.phase == "backward"


def spoken(value: Intermediate) -> str:
    return f"{value.operation} at {line(value.place)}"
