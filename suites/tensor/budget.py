"""What tensor parallelism may communicate at most where a partitioner chooses. Framework-neutral.

Names of sizes besides those of `suites.training.budget`: t devices of the tensor axis, F features of a fused
projection, O output features, K key features.
Source: Shoeybi et al., Megatron-LM, section 3: a sum where a block is left, and one of gradients where it was entered.
A partitioner goes from product to product: the gradient of what a block was entered with is summed for each product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from conformance.contract.budget import Allowance
from conformance.contract.implementation import CollectiveKind
from suites.tensor.layout import TensorLayout
from suites.training.budget import Sizes, of_gradients, of_scalars
from suites.training.state_layout import ShardedTraining

LEFT_AND_ENTERED = "n D where a block is left, in each pass; and where it is entered, for each product"
MEGATRON = "Shoeybi et al., Megatron-LM, section 3"
SECTIONS = "stored one behind the other, sections of a fused projection are cut elsewhere than its features"


class TensorSizes(Sizes):
    """`layout` is a training step with the layout of tensor parallelism."""

    def __init__(self, layout: ShardedTraining) -> None:
        super().__init__(layout)
        assert isinstance(layout, TensorLayout)
        self.axis, self.size = layout.tensor_axis, layout.tensor_size()

    def gradients(self) -> Iterator[Allowance]:
        """What is sent for gradients, and for the state that they update."""
        return of_gradients(self)

    def each_slice(
        self, kind: CollectiveKind, elements: int, calls: int, formula: str, *, dtype: str = "", source: str = MEGATRON
    ) -> Allowance:
        """Activations over the tensor axis, in each slice of the batch."""
        return Allowance(
            kind=kind, axes=(self.axis,), tensor="", dtype=dtype or self.compute, elements=elements,
            calls=calls * self.slices, formula=formula, source=source,
        )  # fmt: skip

    @property
    def attention_products(self) -> int:
        """Products that attention is entered by: of queries, keys and values, or one of all of them."""
        return 1 if self.model.fused_qkv else 3

    @property
    def feedforward_products(self) -> int:
        return 1 if self.model.activation == "gelu" or self.model.fused_gate_up else 2

    @property
    def token_statistics(self) -> int:
        """Numbers of each token that are combined for its loss."""
        return 4 if self.model.label_smoothing else 3

    def padded(self, features: int) -> int:
        return -(-features // self.size) * self.size


def of_training(sizes: TensorSizes) -> Iterator[Allowance]:
    """Gradients, and what only some devices of the tensor axis have seen of those that it does not divide."""
    yield from sizes.gradients()
    yield from of_scalars(sizes)
    for name, shape in sizes.contract.shapes.items():
        part = name.split(".")[-2]
        if part in ("key", "value", "query_norm", "key_norm") and sizes.axis not in sizes.layout.placements(name):
            elements = shape[0] * (shape[1] if len(shape) > 1 else 1)
            yield Allowance(
                kind="all_reduce", axes=(sizes.axis,), tensor=name, dtype=sizes.wide, elements=elements,
                calls=sizes.slices, formula="W, S times: each device has its own heads", source=MEGATRON,
            )  # fmt: skip
            yield Allowance(
                kind="all_gather", axes=(sizes.axis,), tensor=name, dtype=sizes.wide, elements=elements, calls=1,
                formula="W once: each device has made a part of it", source=MEGATRON,
            )  # fmt: skip


def of_attention(sizes: TensorSizes, blocks: int = 1) -> Iterator[Allowance]:
    model, passes = sizes.model, 1 + sizes.again
    calls = blocks * (passes + sizes.attention_products)
    yield sizes.each_slice("all_reduce", sizes.hidden, calls, LEFT_AND_ENTERED)
    if model.fused_qkv:
        features = sizes.padded((model.num_heads + 2 * model.num_kv_heads) * model.head_size)
        yield from _sections(sizes, features, blocks)
    if model.num_kv_heads % sizes.size:
        keys = sizes.tokens * model.num_kv_heads * model.head_size
        for kind in ("all_reduce", "all_gather"):
            yield sizes.each_slice(kind, keys, 2 * blocks, "n K, gradients of keys and values of all query heads")


def of_feedforward(sizes: TensorSizes, blocks: int = 1) -> Iterator[Allowance]:
    model, passes = sizes.model, 1 + sizes.again
    calls = blocks * (passes + sizes.feedforward_products)
    yield sizes.each_slice("all_reduce", sizes.hidden, calls, LEFT_AND_ENTERED)
    if model.fused_gate_up:
        yield from _sections(sizes, sizes.padded(2 * model.ffn), blocks)


def _sections(sizes: TensorSizes, features: int, blocks: int) -> Iterator[Allowance]:
    """The partitioner cuts a fused projection by its sections; a block that lies in two of them is sent twice."""
    calls, formula = blocks * (3 + 2 * sizes.again), "n F gathered, twice in a forward pass and once in a backward pass"
    yield sizes.each_slice("all_gather", sizes.tokens * features, calls, formula, source=SECTIONS)


def of_vocabulary(sizes: TensorSizes) -> Iterator[Allowance]:
    terms = sizes.token_statistics
    yield sizes.each_slice("all_reduce", sizes.hidden, 2, "n D, embedded tokens, and the gradient of the head's input")
    yield sizes.each_slice(
        "all_reduce", sizes.tokens, terms, "n, largest logit, sum of exponentials, target, mean", dtype=sizes.wide
    )


def column_linear(sizes: TensorSizes) -> Iterator[Allowance]:
    yield from of_training(sizes)
    yield sizes.each_slice("all_reduce", sizes.hidden, 1, "n D, the gradient of the input")
    if "outputs/y" in sizes.contract.layouts:
        yield sizes.each_slice("all_reduce", sizes.tokens, 1, "n, the loss of each row", dtype=sizes.wide)
    else:
        outputs = sizes.tokens * sizes.padded(sizes.model.outputs)
        yield sizes.each_slice("all_gather", outputs, 1, "n O, the output gathered")


def row_linear(sizes: TensorSizes) -> Iterator[Allowance]:
    yield from of_training(sizes)
    yield sizes.each_slice("all_reduce", sizes.tokens * sizes.model.outputs, 1, "n O, partial sums")
    if "input_gradients/inputs" not in sizes.contract.layouts:
        inputs = sizes.tokens * sizes.padded(sizes.model.hidden)
        yield sizes.each_slice("all_gather", inputs, 1, "n D, the gradient of the input", dtype=sizes.wide)


def linear_2d(sizes: TensorSizes) -> Iterator[Allowance]:
    """Rows of the weight over data, its columns over tensor."""
    yield from of_training(sizes)
    outputs, data = sizes.tokens * sizes.padded(sizes.model.outputs), sizes.mesh.size("data")
    yield sizes.each_slice("all_gather", outputs, 1, "n O, the output gathered")
    yield sizes.each_slice("all_reduce", -(-sizes.hidden // data), 1, "n D / data, the gradient of the input")
    for kind, elements, dtype, formula in (
        ("all_reduce", outputs // sizes.size, sizes.compute, "n O / t, partial sums"),
        ("all_gather", sizes.hidden, sizes.wide, "n D, the gradient of the input"),
    ):
        yield Allowance(
            kind=kind, axes=("data",), tensor="", dtype=dtype, elements=elements, calls=sizes.slices, formula=formula,
            source="rows of the weight are divided over data: what is summed over them are partial sums",
        )  # fmt: skip


def attention(sizes: TensorSizes) -> Iterator[Allowance]:
    yield from of_training(sizes)
    yield from of_attention(sizes)


def feedforward(sizes: TensorSizes) -> Iterator[Allowance]:
    yield from of_training(sizes)
    yield from of_feedforward(sizes)


def layer(sizes: TensorSizes) -> Iterator[Allowance]:
    yield from of_training(sizes)
    yield from of_attention(sizes)
    yield from of_feedforward(sizes)


def language_model(sizes: TensorSizes) -> Iterator[Allowance]:
    yield from of_training(sizes)
    yield from of_attention(sizes, sizes.model.layers)
    yield from of_feedforward(sizes, sizes.model.layers)
    yield from of_vocabulary(sizes)


OF_KIND: dict[str, Callable[[TensorSizes], Iterator[Allowance]]] = {
    "attention": attention,
    "feedforward": feedforward,
    "layer": layer,
    "language_model": language_model,
}
