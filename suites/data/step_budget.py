"""What data parallelism and sharded state send, written with explicit collectives. Framework-neutral.

P is a parameter as a device stores it for computing, padding included; S slices of the batch; n rows of a device in
one slice, B of all devices along the axes so far.
Source: Rajbhandari et al., ZeRO, sections 5 and 7.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from conformance.contract.implementation import CollectiveKind, Phase
from conformance.contract.placements import sharded_dim
from reference.held_out import ROWS
from suites.data.layout import GradientShards, ParameterShards, SeveralRowAxes, SlotShards
from suites.tensor import step_budget as tensor
from suites.training.step_budget import MEANS, Part, Step, StepBudget
from suites.training.traffic import Transfer

ZERO = "Rajbhandari et al., ZeRO, section 7"
CLIP = "Radford et al., CLIP, figure 3: similarities of all pairs of a batch"
LAYERS = ("layers", "layer")  # the first word in the name of a parameter of a decoder layer
ROUND, HELD_OUT_SUMS = 2, 4  # rows of a device that are evaluated at once; what is summed of all rounds


def of_shard(step: Step, kind: CollectiveKind, phase: Phase, name: str, dtype: str, calls: int = 1) -> Transfer:
    """P over the shard axis: a parameter that is gathered, or whose gradient is scattered."""
    layout = step.layout
    stored = math.prod(layout.arranged_shape(name, layout.sharded_positions(name)))
    placements = layout.computed_placements(name).items()
    dividing = tuple(axis for axis, placement in placements if sharded_dim(placement) is not None)
    return Transfer(
        kind=kind, axes=(layout.shard_axis,), phase=phase, elements=stored // layout.size(dividing), dtype=dtype,
        calls=calls, tensor=f"gradients/{name}" if kind == "reduce_scatter" else f"parameters/{name}",
        formula="P for each call", source=ZERO,
    )  # fmt: skip


def of_updated(step: Step) -> Iterator[Transfer]:
    """Stages 1 and 2: P once, when every device has updated its shard."""
    for name in step.names:
        yield of_shard(step, "all_gather", "update", name, step.layout.stored_dtype)


def of_scatters(step: Step) -> Iterator[Transfer]:
    """Stage 2: P of each gradient, S times. Behind the last backward pass they are the first of the update."""
    times: tuple[tuple[Phase, int], ...] = (("forward", step.slices),)
    if step.habits.by_autograd:
        times = (("forward", step.slices - 1), ("update", 1))
    for name in step.names:
        for phase, calls in times:
            yield of_shard(step, "reduce_scatter", phase, name, step.reduction, calls)


def of_parameters(step: Step) -> Iterator[Transfer]:
    """Stage 3: P gathered S times forward, and again backward where it was not kept; its gradient scattered S times."""
    for name in step.names:
        yield of_shard(step, "all_gather", "forward", name, step.compute, step.slices)
        if step.layout.is_learned(name):
            yield of_shard(step, "reduce_scatter", "backward", name, step.reduction, step.slices)
        if is_gathered_again(step, name):
            yield of_shard(step, "all_gather", "backward", name, step.compute, step.slices)


def is_gathered_again(step: Step, name: str) -> bool:
    """What a backward pass reads of its layer: no bias, and no scale that was kept wide.

    A layer that is computed again needs them all, but for a bias that is added last where it ends before that.
    """
    if name.partition(".")[0] not in LAYERS:
        return False
    if step.recomputes:
        return step.habits.to_its_end or not name.endswith(".down.bias")
    is_kept_wide = step.habits.keeps_wide and name.endswith(".scale") and step.compute != step.wide
    return not name.endswith(".bias") and not is_kept_wide


def of_towers(step: Step) -> Iterator[Transfer]:
    """Two towers, whose embeddings every device compares with those of all rows."""
    yield from tensor.crossed(lambda _: 2)(step)
    rows, layout = step.tokens, step.layout
    for axis in reversed(layout.row_axes):
        rows *= step.mesh.size(axis)
        embeddings = rows * step.model.hidden
        name, formula = "activations/embeddings", "B D of each tower"
        sent = step.each_slice("all_gather", axis, "forward", embeddings, name, formula, CLIP, calls=2, dtype=step.wide)
        yield sent
        yield replace(sent, kind="reduce_scatter", phase="backward")
        yield step.each_slice("all_gather", axis, "forward", rows, "batch/mask", "B", CLIP, dtype=step.wide)


def of_evaluation(step: Step) -> Iterator[Transfer]:
    """Loss, right choices and tokens of the held-out rows."""
    yield from step.sums(step.layout.data_axes, HELD_OUT_SUMS, "metrics/evaluation", "4", MEANS)


def rounds(step: Step) -> int:
    """How often a device evaluates some of its held-out rows."""
    return -(-ROWS // (ROUND * step.layout.size(step.layout.row_axes)))


def of_evaluated_parameters(step: Step) -> Iterator[Transfer]:
    """Stage 3: P for each round of the evaluation."""
    for name in step.names:
        yield of_shard(step, "all_gather", "update", name, step.compute, rounds(step))


def _budgets(layout: type, *parts: Part) -> dict[str, StepBudget]:
    """Of all models, with these parts besides those of the model."""
    plain = {**tensor.BUDGETS, "linear": tensor.COLUMNS}
    of_models = {kind: budget.plus(*parts, layout=(layout,)) for kind, budget in plain.items()}
    contrastive = StepBudget(layout=plain["layer"].layout, parts=(*tensor.SHARED, of_towers))
    return of_models | {"contrastive": contrastive.plus(*parts, layout=(layout,))}


DATA_PARALLEL = _budgets(SeveralRowAxes)
ZERO_1 = _budgets(SlotShards, of_updated)
ZERO_2 = _budgets(type("SlotAndGradientShards", (SlotShards, GradientShards), {}), of_updated, of_scatters)
ZERO_3 = _budgets(ParameterShards, of_parameters)


def evaluated(budgets: dict[str, StepBudget], *parts: Part) -> dict[str, StepBudget]:
    """The same, and an evaluation after every step."""
    return {"language_model": budgets["language_model"].plus(of_evaluation, *parts)}
