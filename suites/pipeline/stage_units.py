"""A model as a row of stage units: the smallest parts out of which stages are made, and what crosses each cut.

Framework-neutral. Every tensor that crosses a cut has rows along dim 0; its shape is given for one row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from reference.architecture import Architecture, shapes

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class StageUnit:
    """A part of a model that is not cut.

    parameters  canonical names of what it computes with; a tied embedding belongs to the first and the last stage unit
    enters      name -> shape per row of the activations that enter it, those that only pass through among them
    cost        multiplications of its forward pass for one row
    """

    name: str
    parameters: tuple[str, ...]
    enters: Mapping[str, Shape] = field(default_factory=dict)
    cost: int


def stage_units(model: Architecture, length: int) -> tuple[StageUnit, ...]:
    """The stage units of a model whose rows have `length` tokens. Raises ValueError for a model that is not cut."""
    if model.kind == "perceptron":
        return _perceptron(model)
    if model.kind == "convolution":
        return _convolution(model)
    if model.kind == "language_model":
        return _language_model(model, length)
    raise ValueError(f"A model of kind '{model.kind}' is one piece: it cannot be cut into stages.")


def _named(model: Architecture, *prefixes: str) -> tuple[str, ...]:
    return tuple(name for name in shapes(model) if name.startswith(tuple(f"{prefix}." for prefix in prefixes)))


def _perceptron(model: Architecture) -> tuple[StageUnit, ...]:
    """A layer each. What a later layer adds crosses all cuts on its way there."""
    units = []
    for i, (inputs, outputs) in enumerate(zip(model.widths, model.widths[1:], strict=False)):
        passing = {f"skip.{a}": (model.widths[a + 1],) for a, b in model.skips if a < i <= b}
        names, enters = _named(model, f"layers.{i}"), {"x": (inputs,)} | passing
        units.append(StageUnit(name=f"layers.{i}", parameters=names, enters=enters, cost=inputs * outputs))
    return tuple(units)


def _convolution(model: Architecture) -> tuple[StageUnit, ...]:
    """A convolution each; the mean over the image and the linear head are one."""
    (height, width, inputs), units = model.image, []
    for i, (outputs, stride) in enumerate(zip(model.channels, model.strides, strict=True)):
        enters = {"x": (height, width, inputs)}
        height, width = -(-height // stride), -(-width // stride)
        name, cost = f"convolutions.{i}", 9 * inputs * outputs * height * width
        units.append(StageUnit(name=name, parameters=_named(model, name), enters=enters, cost=cost))
        inputs = outputs
    head = _named(model, "head")
    return (
        *units,
        StageUnit(name="head", parameters=head, enters={"x": (height, width, inputs)}, cost=inputs * model.outputs),
    )


def _language_model(model: Architecture, length: int) -> tuple[StageUnit, ...]:
    """The embedding, a decoder layer each, and the final norm with the head."""
    enters, sizes = {"x": (length, model.hidden)}, shapes(model)
    layers = []
    for i in range(model.layers):
        names = _named(model, f"layers.{i}")
        products = sum(math.prod(sizes[name]) for name in names if len(sizes[name]) == 2) * length
        cost = products + 2 * length * length * model.num_heads * model.head_size
        layers.append(StageUnit(name=f"layers.{i}", parameters=names, enters=enters, cost=cost))
    head = _named(model, "final_norm", "embedding" if model.tied else "head")
    vocabulary = length * model.hidden * model.vocabulary
    return (
        StageUnit(name="embedding", parameters=_named(model, "embedding"), cost=length * model.hidden),
        *layers,
        StageUnit(name="head", parameters=head, enters=enters, cost=vocabulary),
    )
