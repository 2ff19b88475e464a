"""What expert parallelism sends, written with explicit collectives. Framework-neutral.

Names of sizes besides those of `suites.tensor.step_budget`: E experts, e of a device, K choices of a token, C places
of an expert for one row, b rows of a device in a slice, x devices of the expert axis.
Source: Lepikhin et al., GShard, section 3.2 and algorithm 1: tokens to the devices of their experts, and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from conformance.contract.implementation import Phase
from suites.moe.layout import ExpertLayout
from suites.tensor import step_budget as tensor
from suites.tensor.layout import TensorState
from suites.tensor.step_budget import over_tensor
from suites.training.step_budget import MEANS, MEGATRON, Part, Step, StepBudget
from suites.training.traffic import Transfer

GSHARD = "Lepikhin et al., GShard, algorithm 1"
SWITCH = "Fedus et al., Switch Transformers, section 2.2: terms of the loss are means over the slice"
SENT, COUNTS = "activations/tokens of experts", "counts of tokens"


# What rows of all devices have in common.


def of_statistics(step: Step) -> Iterator[Transfer]:
    """Loads as observed, the weight of every slice, and what the terms of the loss are means of."""
    axes, experts, number = step.layout.data_axes, step.model.experts, step.mixtures * step.slices
    yield from step.sums(axes, experts, "metrics/load", "E for each mixture", MEANS, calls=step.mixtures)
    yield from step.sums(axes, 1, "valid elements", "1 for each slice", SWITCH, calls=step.slices, phase="forward")
    for phase in step.forward_phases:
        yield from step.sums(axes, 1, "real tokens", "1, twice in a mixture", SWITCH, calls=2 * number, phase=phase)
        if step.model.balance_scope == "batch":
            yield from step.sums(axes, experts, "choices", "E in each mixture", SWITCH, calls=number, phase=phase)


def of_places(step: Step) -> Iterator[Transfer]:
    """What every device's rows ask for, where places are those of a slice."""
    model = step.model
    for phase in step.forward_phases if model.capacity_factor and model.capacity_scope == "batch" else ():
        elements = model.top_k * model.experts
        for axis in reversed(step.layout.row_axes):
            elements *= step.mesh.size(axis)
            yield step.each_slice(
                "all_gather", axis, phase, elements, COUNTS, "K E of all devices so far", GSHARD, calls=step.mixtures,
                dtype=step.habits.whole,
            )  # fmt: skip


# Exchanges.


def exchanged(per_row: Callable[[Step], int], formula: str) -> Part:
    """All-to-alls there and back, and the sums over features of experts. Gradients go the same ways."""

    def part(step: Step) -> Iterator[Transfer]:
        again = int(step.recomputes)
        passes: tuple[tuple[Phase, int], ...] = (("forward", 1), ("backward", 1 + again))
        for rows in step.rows_of_slices:
            for phase, times in passes:
                elements, calls = rows * per_row(step), times * step.mixtures
                for kind, axis, number, source in (
                    ("all_to_all", step.layout.expert_axis, 2, GSHARD),
                    ("all_reduce", step.layout.tensor_axis, 1, MEGATRON),
                ):
                    sent = step.each_slice(kind, axis, phase, elements, SENT, formula, source)  # type: ignore[arg-type]
                    yield replace(sent, calls=number * calls)

    return part


def of_buffers(step: Step) -> int:
    layout = step.layout
    return layout.expert_size() * layout.experts_here * layout.places_in_row * step.model.hidden


def of_sorted(step: Step) -> int:
    return step.layout.expert_size() * step.layout.routed_length * step.model.top_k * step.model.hidden


def of_counts(step: Step) -> Iterator[Transfer]:
    """How many of the rows that arrive count."""
    counts = step.layout.expert_size() * step.layout.experts_here
    for phase in step.forward_phases:
        yield step.each_slice(
            "all_to_all", step.layout.expert_axis, phase, counts, COUNTS, "x e", GSHARD, calls=step.mixtures,
            dtype=step.habits.whole,
        )  # fmt: skip


def of_uneven(step: Step) -> Iterator[Transfer]:
    """At most all choices of a device leave it, and those of all devices reach one."""
    layout = step.layout
    tokens = step.rows * layout.routed_length
    arriving = layout.expert_size() * tokens * step.model.top_k * step.model.hidden
    passes: tuple[tuple[Phase, int], ...] = (("forward", 1), ("backward", 1 + int(step.recomputes)))
    for phase, times in passes:
        yield step.each_slice(
            "all_to_all", layout.expert_axis, phase, arriving, SENT, "x n K D at most", GSHARD,
            calls=2 * times * step.mixtures, at_most=True,
        )  # fmt: skip
        yield step.each_slice(
            "all_reduce", layout.tensor_axis, phase, -(-arriving // layout.experts_here), SENT, "x n K D / e at most",
            MEGATRON, calls=times * layout.experts_here * step.mixtures, at_most=True,
        )  # fmt: skip


def of_shared_expert(step: Step) -> Iterator[Transfer]:
    """Beside a mixture by itself: a dense block."""
    for phase in ("forward", "backward") if step.model.shared_ffn else ():
        yield over_tensor(step, "all_reduce", phase, step.hidden, "n D")  # type: ignore[arg-type]


def _budgets(*parts: Part) -> dict[str, StepBudget]:
    alone = StepBudget(layout=(TensorState,), parts=(*tensor.SHARED, of_shared_expert))
    models = {"moe": alone, "layer": tensor.BUDGETS["layer"], "language_model": tensor.BUDGETS["language_model"]}
    return {kind: budget.plus(*parts, layout=(ExpertLayout,)) for kind, budget in models.items()}


CAPACITY_PARTS: tuple[Part, ...] = (of_statistics, of_places, exchanged(of_buffers, "b x e C D"))
RAGGED_PARTS: tuple[Part, ...] = (of_statistics, of_places, exchanged(of_sorted, "b x n K D / b"), of_counts)
UNEVEN_PARTS: tuple[Part, ...] = (of_statistics, of_places, of_uneven, of_counts)
CAPACITY, RAGGED, UNEVEN = (_budgets(*parts) for parts in (CAPACITY_PARTS, RAGGED_PARTS, UNEVEN_PARTS))
