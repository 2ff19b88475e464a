"""The model families of which plans are made: decoders of published shapes, trained by the scanned program."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from conformance.cases.plannable import Layout, ModelFamily, Training
from reference.architecture import Architecture
from suites.planning.footprint import footprint
from suites.planning.plans import scale_plan
from suites.planning.shapes import parameters, sized

PLAIN = Architecture(kind="language_model")


def read(written: Mapping[str, Any]) -> Architecture:
    """Raises TypeError for a field that no architecture has."""
    known = {field.name for field in fields(Architecture)}
    if strange := sorted(set(written) - known):
        raise TypeError(f"there is no '{strange[0]}'")
    given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in written.items()}
    return Architecture(**given)


def written(model: Architecture) -> dict[str, Any]:
    """The fields that a decoder sets."""
    plain = asdict(PLAIN)
    return {name: value for name, value in asdict(model).items() if name == "kind" or value != plain[name]}


def refused(training: Training, layout: Layout) -> str:
    """Why the program does not take a layout, the same sentence for all layouts with the same trouble."""
    model, mesh = training.model, layout.mesh
    tensor = mesh.size("tensor")
    if (why := _mixture(training)) or tensor == 1:
        return why or _rows(training, layout)
    for what, size in (("heads", model.num_heads), ("feed-forward features", model.ffn), ("tokens", model.vocabulary)):
        if size % tensor:
            return f"{size} {what} do not divide over tensor"
    if model.num_kv_heads % tensor and tensor % model.num_kv_heads:
        return f"{model.num_kv_heads} key heads do not divide over tensor"
    if training.length % tensor:
        return f"{training.length} tokens of a row do not divide over tensor"
    return _rows(training, layout)


def _mixture(training: Training) -> str:
    return "mixtures of experts are not searched" if training.model.experts else ""


def _rows(training: Training, layout: Layout) -> str:
    """Every device with rows has as many as the others, in every microbatch."""
    parts = math.prod(layout.mesh.size(axis) for axis in ("data", "fsdp"))
    if training.rows % (parts * layout.microbatches):
        return f"{training.rows} rows do not divide over data and fsdp"
    return ""


FAMILIES = (
    ModelFamily(
        name="decoder",
        summary="dense decoders of the shapes of GPT-3 and Llama, trained by the program that scans over layers",
        axes=("data", "fsdp", "tensor"),
        recomputes=("none", "attention", "layer"),
        not_searched={
            "sequence": "the partitioner gathers weights over a sequence axis of this program, beyond its budget",
            "pipeline": "the program scans over all layers and has no stages",
            "expert": "a dense model has no experts",
        },
        sized=sized,
        read=read,
        fields=written,
        parameters=parameters,
        refused=refused,
        footprint=footprint,
        plan=scale_plan,
    ),
)
