"""A product in the update that is a multiple of what it should be is no sum over an axis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.divergence import first_divergence
from conformance.evidence.intermediates import Intermediate, Intermediates
from conformance.records.results import Cause

MESH = Mesh.parse("data=2")
GRADIENT = np.random.default_rng(0).normal(size=6)


def _program(ranks: int, factor: float, operation: str, phase: str, tensor: str, gradients: bool) -> Intermediates:
    """A gradient, and what an operation makes of it."""
    made = Intermediate(number=0, operation="dot_general", place="model.py:3", phase="backward", sources=())
    gradient = replace(made, values=dict.fromkeys(range(ranks), GRADIENT))
    product = dict.fromkeys(range(ranks), factor * 0.125 * GRADIENT)
    step = replace(made, number=1, operation=operation, place="model.py:9", sources=(0,), values=product)
    observed = {tensor: (1,)} | ({"gradients/w": (0,)} if gradients else {})
    return Intermediates(values=(gradient, replace(step, phase=phase)), observed=observed)  # type: ignore[arg-type]


def _causes(operation: str, phase: str, tensor: str, gradients: bool = True) -> list[Cause]:
    one_device = _program(1, 1.0, operation, phase, tensor, gradients)
    return list(first_divergence(_program(2, 2.0, operation, phase, tensor, gradients), one_device, MESH, tensor))


def test_a_multiple_of_the_step_is_not_summed_twice() -> None:
    number, place = _causes("mul", "update", "updates/w")
    assert number.cause == "multiplied by another number than on one device, 2 times that: mul at model.py:9"
    assert place.cause == "parts from what one device has: mul at model.py:9, update, 2 times what it should be"
    assert place.place


@pytest.mark.parametrize(
    ("operation", "phase", "tensor", "gradients"),
    [
        ("add", "update", "updates/w", True),  # a sum
        ("mul", "backward", "gradients/v", True),
        ("mul", "update", "updates/w", False),  # the gradient that is not observed may be what is summed
    ],
)
def test_what_may_be_a_sum_is(operation: str, phase: str, tensor: str, gradients: bool) -> None:
    assert any("summed twice" in cause.cause for cause in _causes(operation, phase, tensor, gradients))
