"""A parameter in the place of another: what an operation makes of what it is given, and of which input of the step.

An input has no number: a program takes it, gathered perhaps, and shows one operand less. So it is known by what is made
of it: on one device the product of the operand that is shown and of one input, and here that of it and of another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from conformance.diagnosis.inside.blocks import CLOSE, filled, is_trivial, whole
from conformance.diagnosis.inside.compared import Compared, spoken
from conformance.diagnosis.inside.flow import Flow
from conformance.diagnosis.inside.kinds import MOVES
from conformance.diagnosis.inside.matching import Matcher
from conformance.diagnosis.inside.operands import placement
from conformance.diagnosis.inside.sureness import FOUND
from conformance.evidence.intermediates import Intermediate, Intermediates
from conformance.records.results import Cause

TURNS = (*MOVES, "t")
Made = Callable[[np.ndarray, np.ndarray], Iterator[np.ndarray]]  # of what is shown and an input, what may come out


def of_another_parameter(flow: Flow, first: Intermediate) -> Iterator[Cause]:
    """All that it is given is right, but made with another input of the step than on one device."""
    compared = flow.compared
    value = _taker(compared, first) if first.operation in TURNS else first
    counterpart = None if value is None or value.operation not in _MADE else _counterpart(flow, value)
    if value is None or counterpart is None:
        return
    wanted, given = _made_with(compared, counterpart, counterpart), _made_with(compared, counterpart, value)
    if len(wanted) == len(given) == 1 and wanted != given:
        said = f"another parameter than on one device is used: {spoken(value)}{compared.phase_of(value)} takes"
        words = f"{said} {given[0].place}, where one device takes {wanted[0].place}"
        basis = f"what it makes is what comes of {given[0].place}, and all else that it is given is as on one device"
        yield Cause(cause=words, axis=None, confidence=FOUND, basis=basis)


def _taker(compared: Compared, turned: Intermediate) -> Intermediate | None:
    """What takes a value that is no more than another view of one that is right."""
    return next((value for value in compared.wide.values if turned.number in value.sources), None)


def _counterpart(flow: Flow, value: Intermediate) -> Intermediate | None:
    """What one device makes of the one operand that it shows, which is one here too; None where that is not one value.

    It is a turn of the same line; of another program, which has no lines in common, what is nowhere here.
    """
    compared = flow.compared
    known = [operand for operand in map(compared.known, value.sources) if operand is not None]
    used = [user for operand in known for user in flow.users_there(operand) if user.operation == value.operation]
    alike = [
        counterpart
        for counterpart in compared.counterparts(value) or filter(flow.is_lacking, used)
        if len(counterpart.sources) == 1
        and len(value.sources) <= 2
        and any(_is_given(compared, own, counterpart.sources[0]) for own in value.sources)
    ]
    return alike[0] if len(alike) == 1 else None


def _is_given(compared: Compared, own: int, number: int) -> bool:
    wanted = compared.of_number.get(number)
    return wanted is not None and placement(compared, compared.values[own], wanted) is not None


def _made_with(compared: Compared, counterpart: Intermediate, value: Intermediate) -> list[Intermediate]:
    """The inputs of one device with which the operand of `counterpart` makes a value."""
    shown = whole(compared.of_number[counterpart.sources[0]])
    made = _MADE[counterpart.operation]
    return [
        each
        for each in (*compared.twin.inputs, *compared.twin.unseen)
        if not is_trivial(whole(each)) and any(_is(compared, value, x) for x in made(shown, whole(each)))
    ]


def _is(compared: Compared, value: Intermediate, made: np.ndarray) -> bool:
    """Whether the blocks of a value, or itself on one device, are those of what would have been made."""
    if len(value.values) == 1:
        own, largest = filled(whole(value)).ravel(), float(np.abs(made).max(initial=0.0))
        if own.size == made.size:
            return bool(np.abs(own - made.ravel()).max(initial=0.0) <= CLOSE * largest)
    known = replace(value, number=0, values={0: made})
    return Matcher(Intermediates(values=(known,)), compared.mesh).match(value) is not None


def _contracted(shown: np.ndarray, parameter: np.ndarray) -> Iterator[np.ndarray]:
    """The last dims of what is shown with the first or the last ones of a parameter."""
    for number in range(1, min(shown.ndim, parameter.ndim) + 1):
        last, dims = tuple(range(shown.ndim - number, shown.ndim)), parameter.ndim
        for those in {tuple(range(number)), tuple(range(dims - number, dims))}:
            if [shown.shape[dim] for dim in last] == [parameter.shape[dim] for dim in those]:
                yield np.tensordot(shown, parameter, axes=(last, those))


def _by_element(function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Made:
    def made(shown: np.ndarray, parameter: np.ndarray) -> Iterator[np.ndarray]:
        if parameter.ndim and shown.shape[shown.ndim - parameter.ndim :] == parameter.shape:
            yield function(shown, parameter)

    return made


_MADE: Mapping[str, Made] = {
    **dict.fromkeys(("mm", "matmul", "linear", "dot_general"), _contracted),
    "add": _by_element(np.add),
    "mul": _by_element(np.multiply),
}
