"""Messages between ranks of which the program shows the receipt alone: what comes in is what some rank has made.

A stage of a pipeline is a program of its own, and what it receives there is made of nothing. The value with the same
bits that another operation has made is what was sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.contract.roles import role
from conformance.diagnosis.inside.kinds import MESSAGE
from conformance.evidence.intermediates import APART, Intermediate, Intermediates


def linked(program: Intermediates) -> Intermediates:
    """The step with every message that comes from nowhere made of what was sent, where that was seen."""
    if not any(map(is_unlinked, program.values)):
        return program
    makers: dict[bytes, list[Intermediate]] = {}
    values = {value.number: value for value in program.values}
    for value in program.values:
        for bits in _bits(value) - {bits for source in value.sources for bits in _bits(values[source])}:
            makers.setdefault(bits, []).append(value)
    return replace(program, values=tuple(_linked(value, makers) for value in program.values))


def is_unlinked(value: Intermediate) -> bool:
    """A message of which nobody knows what it is made of."""
    return value.operation == MESSAGE and not value.sources


def ringed(program: Intermediates, mesh: Mesh) -> frozenset[str]:
    """The axes along which messages go, but for those between the stages of a pipeline: blocks may go round there.

    All axes where there is no message, or one of which that is not known: another collective may bring blocks too.
    """
    messages = [value for value in program.values if value.operation == MESSAGE]
    known = bool(messages) and all(value.axes for value in messages)
    axes = {axis for value in messages for axis in value.axes} if known else {*mesh.axes}
    return frozenset(axis for axis in axes if role(axis, {}) != "pipeline")


def _linked(value: Intermediate, makers: dict[bytes, list[Intermediate]]) -> Intermediate:
    if not is_unlinked(value):
        return value
    senders = {next((maker.number for maker in _senders(value, makers.get(bits, []))), None) for bits in _bits(value)}
    return replace(value, sources=tuple(sorted(number for number in senders if number is not None)))


def _senders(message: Intermediate, makers: list[Intermediate]) -> Iterator[Intermediate]:
    """Those that are no messages themselves, and come before this one where they are of the same program."""
    for maker in makers:
        before = maker.number < message.number or maker.number // APART != message.number // APART
        if before and maker.operation != MESSAGE:
            yield maker


def _bits(value: Intermediate) -> set[bytes]:
    return {np.ascontiguousarray(block).tobytes() for block in value.values.values()}
