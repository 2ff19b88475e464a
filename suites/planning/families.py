"""The model families of which plans are made: decoders of published shapes, trained by the scanned program."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from conformance.cases.plannable import Layout, ModelFamily, Sized, Training
from conformance.cases.usage import UsageError
from conformance.contract.budget import Allowance
from reference.architecture import Architecture
from suites.hybrid.budget import scanned
from suites.hybrid.budget_mixture import scanned_mixture
from suites.planning import stages
from suites.planning.footprint import footprint
from suites.planning.plans import COMPUTE, planned_contract, scale_plan
from suites.planning.shapes import MIXTURES, parameters, sized

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
    """Why a layout cannot be, the same sentence for all layouts with the same trouble."""
    model, mesh = training.model, layout.mesh
    tensor, tokens = mesh.size("tensor"), mesh.size("sequence") * mesh.size("tensor")
    if why := stages.refused(model.layers, layout):
        return why
    if training.length % tokens:
        return f"{training.length} tokens of a row do not divide over {'sequence and ' * (tokens > tensor)}tensor"
    for what, size in (("heads", model.num_heads), ("feed-forward features", model.ffn), ("tokens", model.vocabulary)):
        if size % tensor:
            return f"{size} {what} do not divide over tensor"
    if model.num_kv_heads % tensor and tensor % model.num_kv_heads:
        return f"{model.num_kv_heads} key heads do not divide over tensor"
    return _rows(training, layout)


def refused_mixture(training: Training, layout: Layout) -> str:
    """The same, and what the axis of the experts divides."""
    model, size = training.model, layout.mesh.size("expert")
    if model.experts % size:
        return f"{model.experts} experts do not divide over expert"
    if layout.microbatches > 1:
        return "mixtures are trained without accumulation: loads of experts are those of a whole batch"
    return refused(training, layout)


def _rows(training: Training, layout: Layout) -> str:
    """Every device with rows has as many as the others, in every microbatch."""
    axes = ("data", "fsdp", "expert") if training.model.experts else ("data", "fsdp")
    parts = math.prod(layout.mesh.size(axis) for axis in axes)
    if training.rows % (parts * layout.microbatches):
        return f"{training.rows} rows do not divide over {', '.join(axes[:-1])} and {axes[-1]}"
    return ""


def uncompiled(training: Training, layout: Layout) -> str:
    """Why no program of a layout is compiled."""
    return stages.uncompiled(layout)


def budget(training: Training, layout: Layout) -> Sequence[Allowance]:
    """That of the program; of stages that of the last rank, which has the head."""
    contract = planned_contract(training, layout)
    if layout.mesh.size("pipeline") > 1:
        return stages.budget(contract, layout, COMPUTE)
    formula = scanned_mixture if training.model.experts else scanned
    return formula(contract, layout.mesh, COMPUTE)


def no_size(number: int) -> Sized:
    raise UsageError(f"A mixture is asked for by its name: {', '.join(MIXTURES)}, or a named plan.")


DENSE = ModelFamily(
    name="decoder",
    summary="dense decoders of the shapes of GPT-3 and Llama, trained by the program that scans over layers",
    axes=("pipeline", "data", "fsdp", "sequence", "tensor"),
    recomputes=("none", "attention", "layer"),
    schedules=stages.SCHEDULES,
    not_searched={"expert": "a dense model has no experts"},
    sized=sized,
    has=lambda model: not model.experts,
    read=read,
    fields=written,
    parameters=parameters,
    refused=refused,
    uncompiled=uncompiled,
    footprint=footprint,
    budget=budget,
    plan=scale_plan,
)
MIXTURE = replace(
    DENSE,
    name="mixture",
    summary="decoders with a mixture of experts in every layer, trained by the same program",
    axes=("data", "fsdp", "expert", "tensor"),
    recomputes=("layer",),
    schedules=(),
    named=MIXTURES,
    not_searched={
        "sequence": "places of an expert are counted over whole rows",
        "pipeline": "the program scans over all layers and has no stages, and no footprint of a stage with a mixture "
        "is known",
    },
    sized=no_size,
    has=lambda model: model.experts > 0,
    refused=refused_mixture,
)
FAMILIES = (DENSE, MIXTURE)
