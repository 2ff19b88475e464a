"""The model families of which plans are made: decoders of published shapes, trained by the scanned program."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, ClassVar

from conformance.cases.plan import ScalePlan
from conformance.cases.plannable import Footprint, Layout, ModelFamily, Sized, Training
from conformance.cases.usage import UsageError
from conformance.contract.budget import Allowance
from reference.architecture import Architecture
from suites.hybrid.budget import scanned
from suites.hybrid.budget_mixture import scanned_mixture
from suites.planning import footprint, plans, shapes, stages

PLAIN = Architecture(kind="language_model")


class Decoder(ModelFamily):
    """Dense decoders; what a family of them says otherwise, it overrides."""

    name = "decoder"
    summary = "dense decoders of the shapes of GPT-3 and Llama, trained by the program that scans over layers"
    axes: ClassVar[tuple[str, ...]] = ("pipeline", "data", "fsdp", "sequence", "tensor")
    row_axes: ClassVar[tuple[str, ...]] = ("data", "fsdp")
    recomputes: ClassVar[tuple[str, ...]] = ("none", "attention", "layer")
    schedules: ClassVar[tuple[str, ...]] = stages.SCHEDULES
    not_searched: ClassVar[Mapping[str, str]] = {"expert": "a dense model has no experts"}

    # Models.

    def sized(self, number: int) -> Sized:
        return shapes.sized(number)

    def has(self, model: Any) -> bool:
        return not model.experts

    def parameters(self, model: Any) -> int:
        return shapes.parameters(model)

    def read(self, written: Mapping[str, Any]) -> Architecture:
        known = {field.name for field in fields(Architecture)}
        if strange := sorted(set(written) - known):
            raise TypeError(f"there is no '{strange[0]}'")
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in written.items()}
        return Architecture(**given)

    def fields(self, model: Any) -> dict[str, Any]:
        """Those that a decoder sets."""
        plain = asdict(PLAIN)
        return {name: value for name, value in asdict(model).items() if name == "kind" or value != plain[name]}

    # Layouts.

    def refused(self, training: Training, layout: Layout) -> str:
        model, mesh = training.model, layout.mesh
        return (
            stages.refused(model.layers, layout)
            or _tokens(training.length, mesh.size("sequence"), mesh.size("tensor"))
            or _features(model, mesh.size("tensor"))
            or self.rows_refused(training, layout)
        )

    def rows_refused(self, training: Training, layout: Layout) -> str:
        """Every device with rows has as many as the others, in every microbatch."""
        parts = math.prod(layout.mesh.size(axis) for axis in self.row_axes)
        if training.rows % (parts * layout.microbatches):
            return f"{training.rows} rows do not divide over {', '.join(self.row_axes[:-1])} and {self.row_axes[-1]}"
        return ""

    def uncompiled(self, training: Training, layout: Layout) -> str:
        return stages.uncompiled(layout)

    # What a layout costs, and what is compiled.

    def footprint(self, training: Training, layout: Layout) -> Footprint:
        return footprint.footprint(training, layout)

    def budget(self, training: Training, layout: Layout) -> Sequence[Allowance]:
        """That of the program; of stages that of the last rank, which has the head."""
        contract = plans.planned_contract(training, layout)
        if layout.mesh.size("pipeline") > 1:
            return stages.budget(contract, layout, plans.COMPUTE)
        return scanned(contract, layout.mesh, plans.COMPUTE)

    def plan(self, name: str, training: Training, layout: Layout) -> ScalePlan:
        return plans.scale_plan(name, training, layout)


class Mixture(Decoder):
    """Decoders all of whose layers have a mixture of experts."""

    name = "mixture"
    summary = "decoders with a mixture of experts in every layer, trained by the same program"
    axes = ("data", "fsdp", "expert", "tensor")
    row_axes = ("data", "fsdp", "expert")
    recomputes = ("layer",)
    schedules: ClassVar[tuple[str, ...]] = ()
    named = shapes.MIXTURES
    not_searched: ClassVar[Mapping[str, str]] = {
        "sequence": "places of an expert are counted over whole rows",
        "pipeline": "the program of a mixture scans over all layers and has no stages, and no footprint of a stage "
        "with a mixture is known",
    }

    def sized(self, number: int) -> Sized:
        raise UsageError(f"A mixture is asked for by its name: {', '.join(self.named)}, or a named plan.")

    def has(self, model: Any) -> bool:
        return bool(model.experts > 0)

    def refused(self, training: Training, layout: Layout) -> str:
        """The same, and what the axis of the experts divides."""
        if training.model.experts % layout.mesh.size("expert"):
            return f"{training.model.experts} experts do not divide over expert"
        if layout.microbatches > 1:
            return "mixtures are trained without accumulation: loads of experts are those of a whole batch"
        return super().refused(training, layout)

    def budget(self, training: Training, layout: Layout) -> Sequence[Allowance]:
        return scanned_mixture(plans.planned_contract(training, layout), layout.mesh, plans.COMPUTE)


def _tokens(length: int, sequence: int, tensor: int) -> str:
    """Why the tokens of a row do not divide."""
    if length % (sequence * tensor):
        return f"{length} tokens of a row do not divide over {'sequence and ' * (sequence > 1)}tensor"
    return ""


def _features(model: Architecture, tensor: int) -> str:
    """Why what the tensor axis divides does not."""
    for what, size in (("heads", model.num_heads), ("feed-forward features", model.ffn), ("tokens", model.vocabulary)):
        if size % tensor:
            return f"{size} {what} do not divide over tensor"
    if model.num_kv_heads % tensor and tensor % model.num_kv_heads:
        return f"{model.num_kv_heads} key heads do not divide over tensor"
    return ""


DECODER, MIXTURE = Decoder(), Mixture()
FAMILIES = (DECODER, MIXTURE)
