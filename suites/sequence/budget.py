"""What a residual stream that is sharded by its tokens may communicate where a partitioner chooses. Framework-neutral.

Names of sizes besides those of `suites.training.budget`: t devices of the tensor axis, c of the sequence axis, n' = c n
tokens of the rows of a device, H query heads of size E.
Sources: Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, section 4.2 (a block is
entered by an all-gather and left by a reduce-scatter); Liu et al., Ring Attention, section 3 (every query sees the keys
and values of all blocks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from conformance.contract.budget import Allowance
from conformance.contract.implementation import CollectiveKind
from suites.sequence.token_layout import CONTEXT
from suites.tensor.budget import TensorSizes, of_training
from suites.training.state_layout import ShardedTraining

ENTERED = "n D where a block is entered, in each pass, and the gradient of what it left"
LEFT = "n D where a block is left, in each pass, and for each product the gradient of what it was entered with"
OBSERVED = "n D, what is handed out of a block"
SEQUENCE = "Korthikanti et al., section 4.2"
RING = "Liu et al., Ring Attention, section 3"
APPLIED = "W of a device over each axis that divides tokens or rows, S times, for each use"
IN_STREAM = "W over both axes that divide the stream's tokens, S times"


class StreamSizes(TensorSizes):
    """`layout` shards tokens of blocks over sequence, and those of the stream over tensor besides if they divide."""

    def __init__(self, layout: ShardedTraining) -> None:
        super().__init__(layout)
        self.contexts = self.mesh.size("sequence")
        self.row_tokens = self.tokens * self.contexts
        length = self.contract.batch_shapes["mask"][1]
        self.has_stream = self.size > 1 and length % (self.contexts * self.size) == 0

    def gradients(self) -> Iterator[Allowance]:
        return _of_gradients(self)

    def over_sequence(
        self, kind: CollectiveKind, elements: int, calls: int, formula: str, *, dtype: str = ""
    ) -> Allowance:
        """Over the sequence axis, in each slice of the batch."""
        return Allowance(
            kind=kind, axes=CONTEXT, tensor="", dtype=dtype or self.compute, elements=elements,
            calls=calls * self.slices, formula=formula, source=RING,
        )  # fmt: skip


def _of_gradients(sizes: StreamSizes) -> Iterator[Allowance]:
    """Over rows and tokens one after the other; over tensor too, of what is applied to the tokens of the stream."""
    rows = tuple(axis for axis in sizes.layout.data_axes if axis not in CONTEXT)
    for name in sizes.contract.shapes:
        times, is_table = sizes.slices * sizes.uses(name), name == "embedding.weight"
        whole = sizes.stored(name) * sizes.size if is_table and sizes.has_stream else sizes.stored(name)
        for axes in (rows, CONTEXT):
            yield _summed(sizes, name, axes, whole, times, APPLIED)
        if sizes.has_stream and (is_table or sizes.axis not in sizes.layout.placements(name)):
            yield _summed(sizes, name, (sizes.axis, *CONTEXT), whole, sizes.slices, IN_STREAM)
        if sizes.has_stream and is_table:
            yield Allowance(
                kind="all_gather", axes=(sizes.axis,), tensor=name, dtype=sizes.wide, elements=whole,
                calls=sizes.slices, formula="W once in each slice", source="each token of the stream may be any word",
            )  # fmt: skip


def _summed(sizes: StreamSizes, name: str, axes: tuple[str, ...], elements: int, calls: int, formula: str) -> Allowance:
    return Allowance(
        kind="all_reduce", axes=axes, tensor=name, dtype=sizes.wide, elements=elements, calls=calls, formula=formula,
        source=SEQUENCE,
    )  # fmt: skip


def _of_block(sizes: StreamSizes, products: int, blocks: int) -> Iterator[Allowance]:
    """Gathered over tensor and scattered again; summed whole where nothing is divided besides features."""
    passes = 1 + sizes.again
    yield sizes.each_slice("all_gather", sizes.hidden, blocks * (passes + 1), ENTERED, source=SEQUENCE)
    kind: CollectiveKind = "reduce_scatter" if sizes.has_stream else "all_reduce"
    yield sizes.each_slice(kind, sizes.hidden, blocks * (passes + products), LEFT, source=SEQUENCE)


def of_attention(sizes: StreamSizes, blocks: int = 1) -> Iterator[Allowance]:
    model, passes = sizes.model, 1 + sizes.again
    yield from _of_block(sizes, sizes.attention_products, blocks)
    heads = sizes.row_tokens * -(-model.num_heads // sizes.size) * model.head_size
    formula = "n' H E / t keys and as many values in each forward pass"
    yield sizes.over_sequence("all_gather", heads, 2 * passes * blocks, formula)
    yield sizes.over_sequence("reduce_scatter", heads, 2 * blocks, "n' H E / t, gradients of keys and of values")
    yield sizes.over_sequence("all_gather", sizes.row_tokens, 1 + passes * blocks, "n', documents", dtype=sizes.wide)
    yield sizes.over_sequence("all_gather", sizes.row_tokens, 2 * passes * blocks, "n', positions", dtype="int64")


def of_feedforward(sizes: StreamSizes, blocks: int = 1) -> Iterator[Allowance]:
    yield from _of_block(sizes, sizes.feedforward_products, blocks)


def of_observed(sizes: StreamSizes, values: int) -> Iterator[Allowance]:
    """Activations are handed out as blocks have them, with a mask each where something is dropped."""
    calls = values * (2 if sizes.model.dropout else 1)
    yield sizes.each_slice("all_gather", sizes.hidden, calls, OBSERVED, dtype=sizes.wide, source=SEQUENCE)


def of_vocabulary(sizes: StreamSizes) -> Iterator[Allowance]:
    """The table, the head, and the statistics of tokens."""
    kind: CollectiveKind = "reduce_scatter" if sizes.has_stream else "all_reduce"
    yield sizes.each_slice(kind, sizes.hidden, 2, "n D, embedded tokens, and the gradient of the head's input")
    yield sizes.each_slice("all_gather", sizes.hidden, 2, "n D, the head's input, and the gradient of what is embedded")
    terms, formula = sizes.token_statistics, "n, largest logit, sum of exponentials, target, mean"
    yield sizes.each_slice("all_reduce", sizes.tokens, terms, formula, dtype=sizes.wide)
    for axes in ((sizes.axis,), CONTEXT, (sizes.axis, *CONTEXT)):
        yield Allowance(
            kind="all_gather", axes=axes, tensor="", dtype="int32", elements=sizes.row_tokens, calls=2 * sizes.slices,
            formula="n' words, as the stream holds them, and the word that follows each", source=SEQUENCE,
        )  # fmt: skip


def attention(sizes: StreamSizes) -> Iterator[Allowance]:
    yield from of_training(sizes)
    yield from of_attention(sizes)
    yield from _of_inputs(sizes, sizes.attention_products)


def feedforward(sizes: StreamSizes) -> Iterator[Allowance]:
    yield from of_training(sizes)
    yield from of_feedforward(sizes)
    yield from _of_inputs(sizes, sizes.feedforward_products)


def _of_inputs(sizes: StreamSizes, products: int) -> Iterator[Allowance]:
    """A block by itself has whole rows for its input, whose gradient is summed whole for each product."""
    yield sizes.each_slice("all_reduce", sizes.hidden, products, "n D, for each product the gradient of the input")


def layer(sizes: StreamSizes) -> Iterator[Allowance]:
    yield from of_training(sizes)
    yield from of_attention(sizes)
    yield from of_feedforward(sizes)
    yield from of_observed(sizes, 4)


def language_model(sizes: StreamSizes) -> Iterator[Allowance]:
    yield from of_training(sizes)
    yield from of_attention(sizes, sizes.model.layers)
    yield from of_feedforward(sizes, sizes.model.layers)
    yield from of_vocabulary(sizes)
    yield from of_observed(sizes, 2 + 3 * sizes.model.layers)


OF_KIND: dict[str, Callable[[StreamSizes], Iterator[Allowance]]] = {
    "attention": attention,
    "feedforward": feedforward,
    "layer": layer,
    "language_model": language_model,
}
