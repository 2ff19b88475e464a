"""A power with another exponent: a count of steps that is not that of the updates, by which moments are corrected.

Source: Kingma and Ba, Adam, algorithm 1: both moments are divided by 1 - beta^t, t being the number of the update.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from conformance.diagnosis.inside.blocks import whole
from conformance.diagnosis.inside.compared import spoken
from conformance.diagnosis.inside.flow import Flow
from conformance.diagnosis.inside.sureness import FOUND
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause

POWERS = ("pow", "integer_pow")
MOST = 64  # times the exponent
NEAR = 1e-9


def of_power(flow: Flow, first: Intermediate) -> Iterator[Cause]:
    """Of one number below 1, where one device raises the same one to another power, which it lacks."""
    made = _number(first)
    for value in flow.compared.of_twin if made is not None else ():
        meant = _number(value)
        if made is None or meant is None or not flow.is_lacking(value):
            continue
        times = math.log(made) / math.log(meant)
        if times < 1:
            times, words = 1 / times, "one {}th of the power that one device raises to"
        else:
            words = "{} times the power that one device raises to"
        if 2 <= round(times) <= MOST and abs(times / round(times) - 1) <= NEAR:
            said = f"raised to {words.format(round(times))}: {spoken(first)}"
            basis = f"it makes {made:.6g}, and {spoken(value)} {meant:.6g} on one device"
            yield Cause(cause=said, axis=None, confidence=FOUND, basis=basis)
            return


def _number(value: Intermediate) -> float | None:
    """The one number between 0 and 1 that a power makes, the same on all ranks."""
    if value.operation not in POWERS or whole(value).size != 1:
        return None
    numbers = {float(block.ravel()[0]) for block in value.values.values()}
    number = numbers.pop()
    return number if not numbers and 0 < number < 1 else None
