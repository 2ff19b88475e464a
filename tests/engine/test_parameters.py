"""Another layer's parameter in a product of the backward pass, gathered wrongly or taken as it is."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.divergence import first_divergence
from conformance.evidence.intermediates import Intermediate, Intermediates, as_inputs
from conformance.records.results import Cause

RNG = np.random.default_rng(0)
MESH = Mesh.parse("fsdp=2")
TENSOR = "gradients/w"
G = RNG.normal(size=(4, 3))  # rows over fsdp
PARAMETERS = {f"layers.{n}.{name}": RNG.normal(size=shape) for n in (0, 1) for name, shape in (("w", (5, 3)), ("s", 5))}
WORDS = "another parameter than on one device is used: {} at model.py:{}, backward pass takes layers.0.{}, where"


def _value(number: int, operation: str, blocks: list[np.ndarray], *sources: int, place: int = 0) -> Intermediate:
    return Intermediate(
        number=number,
        operation=operation,
        place=f"model.py:{place or number}",
        phase="backward",
        sources=sources,
        values=dict(enumerate(blocks)),
    )


def _halves(x: np.ndarray) -> list[np.ndarray]:
    return [x[:2], x[2:]]


def _said(gathered: np.ndarray, scale: np.ndarray, shown: bool, factor: float = 1.0) -> list[Cause]:
    """The gradient of a layer's rows is multiplied with its weight and its scale; one device shows neither."""
    made = factor * G @ gathered.T
    weight = [
        _value(1, "cat", [gathered] * 2),
        _value(2, "t", [gathered.T] * 2, 1),
    ]
    wide = [
        _value(0, "sin", _halves(G)),
        *(weight if shown else ()),
        _value(3, "mm", _halves(made), 0, *((2,) if shown else ())),
        _value(4, "mul", _halves(made * scale), 3),
        _value(5, "tanh", _halves(np.tanh(made * scale)), 4),
    ]
    right = G @ PARAMETERS["layers.1.w"].T
    scaled = right * PARAMETERS["layers.1.s"]
    twin = [_value(0, "sin", [G]), _value(3, "mm", [right], 0), _value(4, "mul", [scaled], 3)]
    twin.append(_value(5, "tanh", [np.tanh(scaled)], 4))
    programs = [Intermediates(values=tuple(each), observed={TENSOR: (5,)}) for each in (wide, twin)]
    alone = Intermediates(values=programs[1].values, observed=programs[1].observed, inputs=as_inputs(PARAMETERS))
    return list(first_divergence(programs[0], alone, MESH, TENSOR))


@pytest.mark.parametrize("shown", [True, False])
def test_the_weight_of_another_layer_is_named(shown: bool) -> None:
    cause = _said(PARAMETERS["layers.0.w"], PARAMETERS["layers.1.s"], shown)[0]
    assert cause.cause == WORDS.format("mm", 3, "w") + " one device takes layers.1.w"
    assert not cause.place


def test_so_is_a_scale() -> None:
    cause = _said(PARAMETERS["layers.1.w"], PARAMETERS["layers.0.s"], True)[0]
    assert cause.cause == WORDS.format("mul", 4, "s") + " one device takes layers.1.s"


def test_a_weight_that_is_no_other_layers_is_not_said_to_be_one() -> None:
    right, scale = PARAMETERS["layers.1.w"], PARAMETERS["layers.1.s"]
    assert _said(right, scale, shown=True) == []
    for wrong in (_said(right + 0.25, scale, shown=True), _said(right, scale, shown=True, factor=1.5)):
        assert wrong
        assert not any("another parameter" in cause.cause for cause in wrong)
