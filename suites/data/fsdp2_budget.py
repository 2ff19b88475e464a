"""What torch's FSDP2 sends: one collective for all parameters of a unit, each padded to equal chunks.

A unit is a decoder layer, or all that belongs to none. U is its number of elements, padding included.
Source: Zhao et al., PyTorch FSDP, sections 3.2 and 3.3; Rajbhandari et al., ZeRO, section 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import ClassVar

from conformance.contract.implementation import CollectiveKind, Phase
from conformance.contract.placements import Placements, Shard
from suites.data.step_budget import of_evaluation, of_towers, rounds
from suites.tensor.layout import ColumnState, TensorState
from suites.training.step_budget import Step, StepBudget, is_hidden, of_losses
from suites.training.traffic import Transfer

FSDP = "Zhao et al., PyTorch FSDP, sections 3.2 and 3.3: gathered for each pass, reduced once"


class FullyShardedState:
    """Everything along its first dim over fsdp, rows over both axes."""

    row_axes: ClassVar[tuple[str, ...]] = ("data", "fsdp")

    def placements(self, name: str) -> Placements:
        return {"fsdp": Shard(0)}


def units(step: Step) -> list[str]:
    """The path of every layer, then that of what belongs to none."""
    layers = [f"layers.{i}" for i in range(step.model.layers)] or ["layer"] * (step.model.kind == "layer")
    return [*layers, ""]


def unit_of(step: Step, name: str) -> str:
    return next((unit for unit in units(step) if unit and name.startswith(f"{unit}.")), "")


def padded_elements(step: Step, name: str) -> int:
    """Elements of a parameter whose chunks all have the size of the largest."""
    parts, (rows, *others) = step.mesh.size("fsdp"), step.contract.shapes[name]
    return -(-rows // parts) * parts * math.prod(others)


def unit_transfer(
    kind: CollectiveKind, axis: str, phase: Phase, unit: str, elements: int, dtype: str, calls: int = 1
) -> Transfer:
    """A collective of all parameters of a unit, or of their gradients."""
    what = "parameters" if kind == "all_gather" else "gradients"
    return Transfer(
        kind=kind, axes=(axis,), phase=phase, elements=elements, dtype=dtype, calls=calls,
        tensor=f"{what}/{unit or 'outside layers'}", formula="U; of a shard U / fsdp", source=FSDP,
    )  # fmt: skip


def of_units(elements_of: Callable[[Step, str], int] = padded_elements) -> Callable[[Step], Iterator[Transfer]]:
    """Gathered in each slice, gradients reduced when all are done; what belongs to no layer stays gathered."""

    def part(step: Step) -> Iterator[Transfer]:
        for unit in units(step):
            names = [name for name in step.contract.shapes if unit_of(step, name) == unit]
            elements = sum(elements_of(step, name) for name in names)
            yield unit_transfer("all_gather", "fsdp", "forward", unit, elements, step.compute, step.slices)
            if unit:
                yield unit_transfer("all_gather", "fsdp", "backward", unit, elements, step.compute, step.slices)
            yield unit_transfer("reduce_scatter", "fsdp", "backward", unit, elements, step.reduction)
            shard = elements // step.mesh.size("fsdp")
            yield unit_transfer("all_reduce", "data", "backward", unit, shard, step.reduction)

    return part


def of_optimizer(step: Step) -> Iterator[Transfer]:
    """The norm of each gradient; under LAMB those of each parameter and its step; under Muon whole matrices."""
    number, axes = len(step.contract.shapes), ("fsdp",)
    yield from step.sums(axes, number, "squares of gradients", "1 for each parameter", FSDP)
    if step.recipe.optimizer == "lamb":
        source = "You et al., LAMB, section 3: norms of layers and of their steps"
        yield from step.sums(axes, 1, "norms of parameters", "1 for each, twice", source, calls=2 * number)
    for name, shape in step.contract.shapes.items():
        if step.recipe.optimizer == "muon" and is_hidden(name, shape):
            yield Transfer(
                kind="all_gather", axes=axes, phase="update", elements=padded_elements(step, name), dtype=step.wide,
                tensor=f"optimizer/momentum/{name}", formula="W with padding",
                source="Jordan et al., Muon: the product of a matrix with itself needs it whole",
            )  # fmt: skip


def of_evaluated_units(step: Step) -> Iterator[Transfer]:
    """Every round of the evaluation gathers all units."""
    for unit in units(step):
        elements = sum(padded_elements(step, name) for name in step.contract.shapes if unit_of(step, name) == unit)
        yield unit_transfer("all_gather", "fsdp", "update", unit, elements, step.compute, rounds(step))


_PARTS = (of_units(), of_losses, of_optimizer)
_STATE = StepBudget(layout=(FullyShardedState, TensorState), parts=_PARTS)
BUDGETS = {
    "linear": StepBudget(layout=(FullyShardedState, ColumnState), parts=_PARTS),
    "layer": _STATE,
    "language_model": _STATE,
    "contrastive": _STATE.plus(of_towers),
}
EVALUATED = {"language_model": _STATE.plus(of_evaluation, of_evaluated_units)}
