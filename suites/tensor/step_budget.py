"""What tensor parallelism sends, written with explicit collectives. Framework-neutral.

Names of sizes besides those of `suites.training.step_budget`: t devices of the tensor axis, O output features, I input
features, R rank of an adapter.
Source: Shoeybi et al., Megatron-LM, section 3: a sum where a block is left, and one of gradients where it was entered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from conformance.contract.implementation import CollectiveKind, Phase
from conformance.contract.placements import Shard, sharded_dim
from suites.tensor.layout import ColumnState, RowState, SubmeshState, TensorState, TileState
from suites.training.step_budget import MEGATRON, STREAM, TRAINING, Part, Step, StepBudget
from suites.training.traffic import Transfer

LOGITS = "activations/statistics of logits"
LORA = "Hu et al., LoRA: the sum between the two matrices of an adapter"
OWN_HEADS = "each device has its own heads, and so its own part of the gradient"


def over_tensor(
    step: Step, kind: CollectiveKind, phase: Phase, elements: int, formula: str, *, calls: int = 1, dtype: str = "",
    tensor: str = STREAM, source: str = MEGATRON,
) -> Transfer:  # fmt: skip
    """Collectives over the tensor axis in every slice."""
    axis = step.layout.tensor_axis
    return step.each_slice(kind, axis, phase, elements, tensor, formula, source, calls=calls, dtype=dtype)


# Gradients of what the tensor axis shares.


def of_partial_gradients(step: Step) -> Iterator[Transfer]:
    """Of replicated parameters that meet other activations on each device."""
    for name in filter(step.layout.is_partial, step.names):
        axes = (step.layout.tensor_axis,)
        yield from step.gradient(name, axes, step.layout.local_elements(name), "W", OWN_HEADS)


def of_repeated_gradients(step: Step) -> Iterator[Transfer]:
    """Of key heads that several devices store: in canonical order, every head once."""
    layout = step.layout
    for name in filter(layout.is_repeated, step.names):
        [(dim, _)] = layout.computed_positions(name).items()
        dividing = tuple(
            a for a, placement in layout.gradient_placements(name).items() if sharded_dim(placement) == dim
        )
        held = len(layout.gradient_positions(name)[dim]) // layout.size(dividing)
        elements = layout.local_elements(name) // held * step.contract.shapes[name][dim]
        formula = "W with all key heads in place of a device's"
        yield from step.gradient(name, (layout.tensor_axis,), elements, formula, OWN_HEADS)


SHARED: tuple[Part, ...] = (*TRAINING, of_partial_gradients, of_repeated_gradients)


# Blocks whose stream is replicated.


def crossed(left: Callable[[Step], int], entered: Callable[[Step], int] | None = None) -> Part:
    """So many blocks are left and entered; they are left once more where layers are computed again."""

    def part(step: Step) -> Iterator[Transfer]:
        back = (entered or left)(step) + left_again(step)
        yield over_tensor(step, "all_reduce", "forward", step.hidden, "n D where a block is left", calls=left(step))
        yield over_tensor(
            step, "all_reduce", "backward", step.hidden, "n D where it was entered, or is left again", calls=back
        )

    return part


def left_again(step: Step) -> int:
    """Blocks that are left once more in the backward pass: all of a layer but the last, which nothing there reads."""
    return step.depth + (step.dense_blocks if step.habits.to_its_end else 0) if step.recomputes else 0


def of_adapters(step: Step) -> Iterator[Transfer]:
    for phase in step.forward_phases:
        yield over_tensor(
            step, "all_reduce", phase, step.tokens * step.model.adapter, "n R", calls=step.adapters, source=LORA,
            tensor="activations/adapters",
        )  # fmt: skip


def of_logits(step: Step) -> Iterator[Transfer]:
    """Largest logit, sum of exponentials and target logit of every token; under label smoothing their mean."""
    terms = (4 if step.model.label_smoothing else 3) * step.heads
    formula = "n for each statistic"
    yield over_tensor(step, "all_reduce", "forward", step.tokens, formula, calls=terms, dtype=step.wide, tensor=LOGITS)


def blocks(step: Step) -> int:
    """Attention in every layer, and the dense block behind it."""
    return step.depth + step.dense_blocks


def all_left(step: Step) -> int:
    """All blocks, and the embedding."""
    return blocks(step) + step.embeddings


def all_entered(step: Step) -> int:
    """All blocks, and the head."""
    return blocks(step) + step.heads


# Linear layers by themselves.


def stays_sharded(step: Step) -> bool:
    return Shard(1) in step.contract.layouts.get("outputs/y", {}).values()


def padded(step: Step, features: int) -> int:
    """Features of all devices, those that only fill up the last ones among them."""
    parts = step.layout.tensor_size()
    return -(-features // parts) * parts


def of_columns(step: Step) -> Iterator[Transfer]:
    yield over_tensor(step, "all_reduce", "backward", step.hidden, "n I, the gradient of the input")
    yield from of_outputs(step)


def of_outputs(step: Step) -> Iterator[Transfer]:
    """The outputs are gathered; where the contract leaves them sharded, the loss is summed."""
    if stays_sharded(step):
        yield over_tensor(step, "all_reduce", "forward", 1, "1, the loss", dtype=step.wide, tensor="loss")
    else:
        elements = step.tokens * padded(step, step.model.outputs)
        yield over_tensor(step, "all_gather", "forward", elements, "n O with padding", tensor="outputs/y")


def of_rows(step: Step) -> Iterator[Transfer]:
    outputs = step.tokens * step.model.outputs
    yield over_tensor(step, "all_reduce", "forward", outputs, "n O, partial sums", tensor="outputs/y")
    yield from of_inputs(step)


def of_inputs(step: Step) -> Iterator[Transfer]:
    """The input is split here, and its gradient gathered, unless it arrives sharded."""
    if Shard(1) not in step.contract.layouts.get("input_gradients/inputs", {}).values():
        elements = step.tokens * padded(step, step.model.hidden)
        yield over_tensor(step, "all_gather", "backward", elements, "n I with padding", tensor="input_gradients/inputs")


def of_tiles(step: Step) -> Iterator[Transfer]:
    """Rows of the weight over data, its columns over tensor."""
    outputs, data = step.tokens * step.model.outputs, step.mesh.size("data")
    yield over_tensor(step, "all_gather", "forward", outputs, "n O", tensor="outputs/y")
    yield step.each_slice(
        "all_reduce", "data", "forward", outputs // step.layout.tensor_size(), "outputs/y", "n O / t, partial sums",
        MEGATRON,
    )  # fmt: skip
    yield over_tensor(step, "all_reduce", "backward", step.hidden // data, "n I / data, the gradient of the input")


BLOCKS: tuple[Part, ...] = (crossed(all_left, all_entered), of_adapters)
COLUMNS = StepBudget(layout=(ColumnState,), parts=(*SHARED, of_columns))
ROWS = StepBudget(layout=(RowState,), parts=(*SHARED, of_rows))
TILES = StepBudget(layout=(TileState,), parts=(*SHARED, of_tiles))
SUBMESH = StepBudget(layout=(SubmeshState,), parts=(*SHARED, of_columns))
BUDGETS = {
    "attention": StepBudget(layout=(TensorState,), parts=(*SHARED, crossed(lambda step: 1))),
    "feedforward": StepBudget(layout=(TensorState,), parts=(*SHARED, crossed(lambda step: 1), of_adapters)),
    "layer": StepBudget(layout=(TensorState,), parts=(*SHARED, *BLOCKS)),
    "language_model": StepBudget(layout=(TensorState,), parts=(*SHARED, *BLOCKS, of_logits)),
}
