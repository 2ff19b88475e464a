"""The way to a tensor: the values of a step that it is made of."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.evidence.intermediates import Intermediates


def way(program: Intermediates, tensor: str | None) -> set[int]:
    """All that an observation is made of.

    Of a tensor that is collected behind the step it is not known: then all that an update or some observation is made
    of. What leads to neither, as the second result of an operation may, is on no way.
    """
    values = {value.number: value for value in program.values}
    behind = [number for number in program.observed.get(tensor or "", _ends(program, tensor)) if number in values]
    found = set[int]()
    while behind:
        number = behind.pop()
        if number not in found:
            found.add(number)
            behind += [source for source in values[number].sources if source in values]
    return found


def _ends(program: Intermediates, tensor: str | None) -> tuple[int, ...]:
    """Observations and what belongs to the update; every value where nothing does."""
    updates = tuple(_updates(program)) if tensor is not None else ()
    if not updates:
        return tuple(value.number for value in program.values)
    return (*updates, *(number for numbers in program.observed.values() for number in numbers))


def _updates(program: Intermediates) -> Iterator[int]:
    """In JAX an update is known by standing behind all gradients."""
    backward = [value.number for value in program.values if value.phase == "backward"]
    for value in program.values:
        if value.phase == "update" or (backward and value.number > max(backward)):
            yield value.number
