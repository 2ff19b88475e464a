"""The way to a tensor: the values of a step that it is made of, and those that are made of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from conformance.diagnosis.inside.kinds import SORTS
from conformance.evidence.intermediates import APART, Intermediate, Intermediates


def way(program: Intermediates, tensor: str | None) -> set[int]:
    """All that an observation is made of; of a tensor that is collected behind the step, every value.

    But for the values of a sort of which nothing is made, as where its indices alone are used.
    """
    values = {value.number: value for value in program.values}
    used = {source for value in program.values for source in value.sources}
    used.update(number for numbers in program.observed.values() for number in numbers)
    every = tuple(number for number, value in values.items() if number in used or value.operation not in SORTS)
    behind = [number for number in program.observed.get(tensor or "", every) if number in values]
    found = set[int]()
    while behind:
        number = behind.pop()
        if number not in found:
            found.add(number)
            behind += [source for source in values[number].sources if source in values]
    return found


def made_of(values: Iterable[Intermediate], first: Intermediate) -> Iterator[Intermediate]:
    """Those that are made of one of them, in their order."""
    made = {first.number}
    for value in values:
        if made.intersection(value.sources):
            made.add(value.number)
            yield value


def in_order(values: Mapping[int, Intermediate], numbers: Iterable[int]) -> list[Intermediate]:
    """Some of the values in the order of the program; of several, forward before backward, and there the last first.

    A stage goes forward again after its first backward pass: that is told by the lines of the forward pass.
    """
    several = any(number >= APART for number in values)
    forward = {(value.operation, value.place) for value in values.values() if value.phase == "forward"}

    def order(value: Intermediate) -> tuple[int, int, int]:
        if not several:
            return 0, 0, value.number
        stage, back = value.number // APART, value.phase == "backward"
        in_forward = (value.operation, value.place) in forward and not back
        return 0 if in_forward else 1 if back else 2, -stage if back else stage, value.number

    return sorted((values[number] for number in numbers), key=order)
