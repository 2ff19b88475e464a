"""What sequence and context parallelism send, written with explicit collectives. Framework-neutral.

Names of sizes besides those of `suites.tensor.step_budget`: c devices of the sequence axis, K key features of a device,
Q query features; n counts the tokens that blocks of a device compute with, padding included.
Sources: Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, section 4.2.2 (a gather
where a block is entered, a reduce-scatter where it is left); Liu et al., Ring Attention, section 3; Jacobs et al.,
DeepSpeed Ulysses, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from conformance.contract.implementation import Phase
from suites.sequence.token_layout import ContextLayout, StreamLayout, ZigzagOrder
from suites.tensor import step_budget as tensor
from suites.tensor.layout import ColumnState, RowState, TensorState
from suites.tensor.step_budget import over_tensor
from suites.training.step_budget import Budgets, Part, Step, StepBudget
from suites.training.traffic import Transfer

KORTHIKANTI = "Korthikanti et al., section 4.2.2"
RING = "Liu et al., Ring Attention, section 3: blocks of keys and values go round"
ULYSSES = "Jacobs et al., DeepSpeed Ulysses, section 3: all-to-all between tokens and heads"
KEYS, MASKS = "activations/keys and values", "batch/attention_mask"
POSITIONS, DOCUMENTS, TOKENS = "positions of tokens", "batch/document_starts", "batch/tokens"


# Blocks whose stream is sharded along its tokens.


def entered(number: Callable[[Step], int], again: Callable[[Step], int] = lambda step: 0) -> Part:
    """So many blocks are entered by a gather, whose gradient is a reduce-scatter; some again where recomputed."""

    def part(step: Step) -> Iterator[Transfer]:
        blocks, twice = number(step), again(step) if step.recomputes else 0
        yield over_tensor(step, "all_gather", "forward", step.hidden, "n D", calls=blocks, source=KORTHIKANTI)
        yield over_tensor(step, "all_gather", "backward", step.hidden, "n D again", calls=twice, source=KORTHIKANTI)
        yield over_tensor(step, "reduce_scatter", "backward", step.hidden, "n D", calls=blocks, source=KORTHIKANTI)

    return part


def left(number: Callable[[Step], int]) -> Part:
    """So many blocks are left by a reduce-scatter, whose gradient is a gather; some again where recomputed."""

    def part(step: Step) -> Iterator[Transfer]:
        yield from scattered(step, step.hidden, number(step))
        again = tensor.left_again(step)
        yield over_tensor(step, "reduce_scatter", "backward", step.hidden, "n D again", calls=again, source=KORTHIKANTI)

    return part


def scattered(step: Step, elements: int, calls: int = 1, name: str = tensor.STREAM) -> Iterator[Transfer]:
    """Partial sums to the tokens of the stream; their gradients are gathered."""
    yield over_tensor(step, "reduce_scatter", "forward", elements, "n D", calls=calls, source=KORTHIKANTI, tensor=name)
    yield over_tensor(step, "all_gather", "backward", elements, "n D", calls=calls, source=KORTHIKANTI, tensor=name)


def of_adapters(step: Step) -> Iterator[Transfer]:
    elements, name = step.tokens * step.model.adapter, "activations/adapters"
    yield from scattered(step, elements, step.adapters, name)
    if step.recomputes:
        yield over_tensor(
            step, "reduce_scatter", "backward", elements, "n R", calls=step.adapters, source=tensor.LORA, tensor=name
        )


def of_stream_losses(step: Step) -> Iterator[Transfer]:
    """Loss and weight of the tokens of the stream."""
    yield over_tensor(step, "all_reduce", "forward", 1, "1, twice", calls=2, dtype=step.wide, tensor="loss")


def of_rows(step: Step) -> Iterator[Transfer]:
    """Features are split here; partial sums are reduce-scattered along tokens."""
    yield from scattered(step, step.tokens * step.model.outputs, name="outputs/y")
    yield from tensor.of_inputs(step)


def one(step: Step) -> int:
    return 1


_ENDS = (left(tensor.all_left), entered(tensor.all_entered, tensor.blocks), of_adapters, tensor.of_logits)
_LAYER = (left(tensor.blocks), entered(tensor.blocks, tensor.blocks), of_adapters, of_stream_losses)
_BLOCK = (left(one), entered(one), of_adapters, of_stream_losses)
COLUMNS = StepBudget(layout=(StreamLayout, ColumnState), parts=(*tensor.SHARED, entered(one), tensor.of_outputs))
ROWS = StepBudget(layout=(StreamLayout, RowState), parts=(*tensor.SHARED, of_rows, of_stream_losses))
STREAM_PARTS: dict[str, tuple[Part, ...]] = {
    "attention": (*tensor.SHARED, *_BLOCK),
    "feedforward": (*tensor.SHARED, *_BLOCK),
    "layer": (*tensor.SHARED, *_LAYER),
    "language_model": (*tensor.SHARED, *_ENDS),
}
BUDGETS = {kind: StepBudget(layout=(StreamLayout, TensorState), parts=parts) for kind, parts in STREAM_PARTS.items()}


# Rows that are sharded over the sequence axis.


def over_sequence(
    step: Step, kind: str, phase: Phase, elements: int, name: str, formula: str, source: str, *, calls: int = 1,
    dtype: str = "",
) -> Transfer:  # fmt: skip
    return step.each_slice(kind, "sequence", phase, elements, name, formula, source, calls=calls, dtype=dtype)  # type: ignore[arg-type]


def of_targets(chunks: int) -> Part:
    """The first token of every run of tokens, to the device that has those before it: one message for each run."""

    def part(step: Step) -> Iterator[Transfer]:
        if step.heads and step.model.shift_labels:
            yield over_sequence(
                step, "permute", "forward", step.rows, TOKENS, "rows, for each run of tokens",
                "the target of a token is the one that follows it in its row", calls=chunks, dtype=step.habits.whole,
            )  # fmt: skip

    return part


def of_documents(step: Step) -> Iterator[Transfer]:
    """Starts of documents, counted over the whole row."""
    for phase in step.forward_phases if step.model.documents else ():
        yield over_sequence(
            step, "all_gather", phase, step.tokens * step.layout.context_size(), DOCUMENTS, "n c",
            "a document may begin in one shard and go on in the next", calls=step.attentions, dtype=step.wide,
        )  # fmt: skip


def key_features(step: Step) -> int:
    return max(step.model.num_kv_heads // step.layout.tensor_size(), 1) * step.model.head_size


def of_ring(step: Step) -> Iterator[Transfer]:
    """Keys and values with what is known of their tokens, c - 1 times; their gradients c times, and so back."""
    devices, tokens = step.layout.context_size(), step.layout.chunks() * step.layout.chunk_width()
    hops, keys = (devices - 1) * step.attentions, step.tokens * key_features(step)
    phases: tuple[Phase, ...] = (*step.forward_phases, "backward")
    for phase in phases:
        yield over_sequence(step, "permute", phase, keys, KEYS, "n K, keys and values", RING, calls=2 * hops)
        yield over_sequence(step, "permute", phase, step.tokens, MASKS, "n", RING, calls=hops, dtype=step.mask_dtype)
        if step.model.documents:
            yield over_sequence(step, "permute", phase, step.tokens, DOCUMENTS, "n", RING, calls=hops, dtype="int32")
        yield over_sequence(step, "permute", phase, tokens, POSITIONS, "n of one row", RING, calls=hops, dtype="int32")
    back = 2 * devices * step.attentions
    yield over_sequence(
        step, "permute", "backward", keys, "gradients of keys and values", "n K", RING, calls=back, dtype=step.wide
    )


def of_ulysses(step: Step) -> Iterator[Transfer]:
    """Queries, keys and values to heads, outputs back to tokens; their gradients the other way."""
    model, devices, calls = step.model, step.layout.context_size(), 2 * step.attentions
    heads = max(model.num_kv_heads // step.layout.tensor_size(), 1)
    queries = model.num_heads // step.layout.tensor_size() * model.head_size
    keys = math.lcm(heads, devices) * model.head_size  # heads are repeated until they divide
    phases: tuple[Phase, ...] = (*step.forward_phases, "backward")
    for phase in phases:
        yield over_sequence(
            step, "all_to_all", phase, step.tokens * queries, "activations/queries and outputs", "n Q", ULYSSES,
            calls=calls,
        )  # fmt: skip
        yield over_sequence(
            step, "all_to_all", phase, step.tokens * keys, KEYS, "n K, heads repeated until they divide", ULYSSES,
            calls=calls,
        )  # fmt: skip
    gathered = (2 if model.documents else 1) * step.attentions
    for phase in step.forward_phases:
        yield over_sequence(
            step, "all_gather", phase, step.tokens * devices, MASKS, "n c, mask and documents", ULYSSES,
            calls=gathered, dtype=step.wide,
        )  # fmt: skip


def context(parts: tuple[Part, ...], layout: tuple[type, ...] = ()) -> Budgets:
    """Of all models, with a way of attention beside the parts of a sharded stream."""
    where = (*layout, ContextLayout, TensorState)
    return {kind: StepBudget(layout=where, parts=(*of_model, *parts)) for kind, of_model in STREAM_PARTS.items()}


RINGS = context((of_targets(1), of_documents, of_ring))
ZIGZAGS = context((of_targets(2), of_documents, of_ring), (ZigzagOrder,))
HEADS = context((of_targets(1), of_documents, of_ulysses))


# Products that gather their own tokens, in a ring over the tensor axis.


def products(step: Step) -> int:
    """How many products gather their tokens for themselves."""
    model = step.model
    attention = 1 if model.fused_qkv else 3
    feedforward = 1 if model.activation == "gelu" or model.fused_gate_up else 2
    each = {"linear": 1, "attention": attention, "feedforward": feedforward, "layer": attention + feedforward}
    return model.layers * each["layer"] + 1 if model.kind == "language_model" else each[model.kind]


def of_rounds(step: Step) -> Iterator[Transfer]:
    """Tokens go round for each product, once more for the gradient of its weight, and their gradients come back.

    A way round n devices is n - 1 messages of a chunk.
    """
    devices, number = step.layout.tensor_size(), products(step)
    again = (number - (step.model.kind == "language_model")) if step.recomputes else 0
    for phase, times in (("forward", number), ("backward", 2 * number + again)):
        yield over_tensor(
            step, "permute", phase, step.hidden // devices, "n D / t for each of t - 1 messages",  # type: ignore[arg-type]
            calls=(devices - 1) * times, source="Wang et al., Overlap Communication with Dependent Computation",
        )  # fmt: skip


RING_COLUMNS = StepBudget(layout=(StreamLayout, ColumnState), parts=(*tensor.SHARED, of_rounds, tensor.of_outputs))
RING_PRODUCTS = {
    kind: StepBudget(layout=(StreamLayout, TensorState), parts=(*tensor.SHARED, *parts))
    for kind, parts in {
        "attention": (left(one), of_rounds, of_stream_losses),
        "feedforward": (left(one), of_rounds, of_adapters, of_stream_losses),
        "layer": (left(tensor.blocks), of_rounds, of_adapters, of_stream_losses),
        "language_model": (left(tensor.all_left), of_rounds, of_adapters, tensor.of_logits),
    }.items()
}
