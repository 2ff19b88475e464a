"""What the scanned step may communicate, per device and step, as a formula over the contract and the mesh.

Names of sizes: L layers, n tokens of a device in a slice of the batch (rows over data and fsdp, tokens over sequence),
D hidden features, V vocabulary, W elements of a parameter in one layer, t size of the tensor axis, f of fsdp.
Sources: Rajbhandari et al., ZeRO, section 7 (parameters gathered twice, gradients reduced once; three times where the
forward pass is computed again); Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models,
section 4.2 (two all-gathers and two reduce-scatters of a layer in each direction); Shoeybi et al., Megatron-LM,
section 3 (cross-entropy over a sharded vocabulary).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import chain, combinations
from typing import ClassVar

from conformance.contract.budget import Allowance
from conformance.contract.contract import Contract
from conformance.contract.mesh import Mesh
from reference.architecture import Architecture, shapes

EVERY = "layers.*"
ZERO = "Rajbhandari et al., ZeRO, section 7"
SEQUENCE = "Korthikanti et al., section 4.2"
VOCABULARY = "Shoeybi et al., Megatron-LM, section 3"
COLUMNS = ("query", "key", "value", "gate", "up", "head", "embedding")
ROWS = ("output", "down")


def scanned(contract: Contract, mesh: Mesh, dtype: str) -> tuple[Allowance, ...]:
    """The allowances of one step of `hybrid/scanned` and of every plan of its program."""
    sizes = Sizes(contract, mesh, dtype)
    every = (*of_parameters(sizes), *of_activations(sizes), *of_vocabulary(sizes), *of_scalars(sizes))
    every = (*every, *of_embedded(sizes), *of_embedding(sizes), *of_context(sizes))
    return tuple(replace(allowance, calls=allowance.calls * sizes.slices) for allowance in every)


class Sizes:
    """The numbers that the formulas are made of."""

    row_axes: ClassVar[tuple[str, ...]] = ("data", "fsdp")
    end: str = ""  # of a pipeline, where a rank has one
    has_head: bool = True
    live: float = 1  # slices whose saved activations lie there at once

    def __init__(self, contract: Contract, mesh: Mesh, dtype: str) -> None:
        self.contract, self.mesh, self.model, self.recipe = contract, mesh, contract.model, contract.recipe
        precision = contract.recipe.precision
        self.compute = precision.dtype("compute", dtype)
        self.wide = "float64" if dtype == "float64" else "float32"
        self.tensor = mesh.size("tensor")
        self.slices = self.recipe.accumulation * self.recipe.microbatches  # each sends what a batch of its size would
        self.row_tokens = math.prod(contract.batch_shapes["mask"]) // self.size(self.row_axes) // self.slices
        self.tokens = self.row_tokens // mesh.size("sequence")
        self.twice = 2 if self.recipe.recompute == "layer" else 1  # forward passes of a layer
        self.attends = 2  # passes that need keys and values of other tokens: forward, and backward in any case

    def stored(self) -> Iterator[tuple[str, int, int]]:
        """(stored name, elements that a tensor rank computes with in one layer, layers)."""
        for stored, name, layers in _stacked(self.model):
            yield stored, self.share(name, self.contract.shapes[name]), layers

    def size(self, axes: tuple[str, ...]) -> int:
        return math.prod(self.mesh.size(axis) for axis in axes)

    def shard_axes(self, name: str) -> tuple[str, ...]:
        """The axes that divide what is stored of a parameter, and not what is computed with."""
        return ("fsdp",)

    def copy_axes(self, name: str) -> tuple[str, ...]:
        """The axes whose devices have other rows and the same elements of a stored parameter."""
        return ("data", "sequence")

    def share(self, name: str, shape: tuple[int, ...]) -> int:
        elements = math.prod(shape)
        return -(-elements // self.tensor) if self.divides(name) else elements

    def divides(self, name: str) -> bool:
        """Whether the tensor axis divides a parameter; key heads that are too few are whole on every rank."""
        module, _, leaf = name.rpartition(".")
        part = module.rpartition(".")[2]
        if part in ("key", "value") and self.model.num_kv_heads % self.tensor:
            return False
        return part in COLUMNS or (part in ROWS and leaf == "weight")


@cache
def _stacked(model: Architecture) -> tuple[tuple[str, str, int], ...]:
    """(stored name, canonical name in the first layer, layers) of every stored parameter."""
    names = [name for name in shapes(model) if not name.startswith("layers.") or name.startswith("layers.0.")]
    return tuple(
        (name.replace("layers.0", EVERY), name, model.layers) if name.startswith("layers.") else (name, name, 1)
        for name in names
    )


def of_parameters(sizes: Sizes) -> Iterator[Allowance]:
    """Gathered over fsdp for each pass; gradients reduced over fsdp and data, and tensor where it is whole."""
    for name, elements, layers in sizes.stored():
        passes = 1 + sizes.twice if EVERY in name else 2
        dtype = sizes.compute if name.endswith(".weight") else sizes.wide
        yield Allowance(
            kind="all_gather", axes=sizes.shard_axes(name), tensor=name, dtype=dtype, elements=elements,
            calls=layers * passes, formula=f"W / t in each of {passes} passes of each layer", source=ZERO,
        )  # fmt: skip
        yield from _of_gradient(sizes, name, dtype, elements, layers)
        if not name.endswith(".weight"):
            yield from _of_vector(sizes, name, elements, layers, passes)
        if not sizes.divides(name):
            yield Allowance(
                kind="all_reduce", axes=("sequence", "tensor"), tensor=name, dtype=sizes.wide, elements=elements,
                calls=layers, formula="W once for each layer: each rank saw its own tokens", source=SEQUENCE,
            )  # fmt: skip


def _of_gradient(sizes: Sizes, name: str, dtype: str, elements: int, layers: int) -> Iterator[Allowance]:
    """Scattered over the axes that divide what is stored, and what of it is stored summed over those that copy it."""
    shard_axes, copy_axes = sizes.shard_axes(name), sizes.copy_axes(name)
    at_once = sizes.size(shard_axes) > 1 or name == "embedding.weight"
    summed = [copy_axes] if at_once else [(axis,) for axis in copy_axes]  # one after the other
    for kind, axes, size in (
        ("reduce_scatter", shard_axes, elements),
        *(("all_reduce", axes, -(-elements // sizes.size(shard_axes))) for axes in summed),
    ):
        yield Allowance(
            kind=kind, axes=axes, tensor=name, dtype=dtype, elements=size, calls=layers,
            formula="W / t once for each layer, and what of it is stored", source=ZERO,
        )  # fmt: skip


def _of_vector(sizes: Sizes, name: str, elements: int, layers: int, passes: int) -> Iterator[Allowance]:
    """What a bias or a scale may take besides: its gradient summed whole, and parts that change places."""
    shard_axes, copy_axes = sizes.shard_axes(name), sizes.copy_axes(name)
    yield Allowance(
        kind="all_reduce", axes=(*copy_axes, *shard_axes), tensor=name, dtype=sizes.wide, elements=elements,
        calls=layers, formula="W once for each layer: a vector may be summed whole", source=ZERO,
    )  # fmt: skip
    if sizes.divides(name):
        yield Allowance(
            kind="permute", axes=(*shard_axes, "tensor"), tensor=name, dtype=sizes.wide, elements=elements,
            calls=layers * passes, formula="W / t in each pass of each layer, at the most",
            source="of a vector that both axes divide, a rank computes with another part than it stores",
        )  # fmt: skip


def of_activations(sizes: Sizes) -> Iterator[Allowance]:
    """The residual stream: gathered before a block and scattered behind it; each product's gradient is scattered."""
    products = 3 + (2 if sizes.model.activation == "swiglu" else 1)  # query, key, value; up, and gate
    layers, per_call = sizes.model.layers, sizes.tokens * sizes.model.hidden
    gathers = layers * (2 * sizes.twice + 2)
    scatters = layers * (2 * sizes.twice + products)
    for kind, calls in (("all_gather", gathers), ("reduce_scatter", scatters)):
        yield Allowance(
            kind=kind, axes=("tensor",), tensor="", dtype=sizes.compute, elements=per_call, calls=calls,
            formula="n D, two in each pass of each layer; backward a scatter for each column product", source=SEQUENCE,
        )  # fmt: skip


def of_vocabulary(sizes: Sizes) -> Iterator[Allowance]:
    """Hidden states gathered for the head, statistics of tokens for the loss."""
    per_call = sizes.tokens * sizes.model.hidden
    for kind in ("all_gather", "reduce_scatter"):
        yield Allowance(
            kind=kind, axes=("tensor",), tensor="", dtype=sizes.compute, elements=per_call, calls=1,
            formula="n D before the head, forward; its gradient scattered, backward", source=VOCABULARY,
        )  # fmt: skip
    yield Allowance(
        kind="all_reduce", axes=("tensor",), tensor="", dtype=sizes.wide, elements=sizes.tokens, calls=8,
        formula="maximum, sum and target of each token, and their gradients", source=VOCABULARY,
    )  # fmt: skip


def of_embedded(sizes: Sizes) -> Iterator[Allowance]:
    """Features of embedded tokens, exchanged for the tokens of the residual stream."""
    yield Allowance(
        kind="all_to_all", axes=("tensor",), tensor="", dtype=sizes.compute, calls=2,
        elements=sizes.tokens * sizes.model.hidden,
        formula="n D / t: features of all tokens for all features of own tokens, and back",
        source="the embedding is sharded by features over tensor",
    )  # fmt: skip


def of_embedding(sizes: Sizes) -> Iterator[Allowance]:
    """Where a slice has fewer tokens than the vocabulary: gradients of tokens, gathered instead of rows reduced."""
    axes = sizes.shard_axes("embedding.weight")
    tokens = sizes.tokens * sizes.size(axes)
    features = tokens * -(-sizes.model.hidden // sizes.tensor)
    for dtype, elements in ((sizes.compute, features), ("int32", tokens)) if tokens < sizes.model.vocabulary else ():
        yield Allowance(
            kind="all_gather", axes=axes, tensor="", dtype=dtype, calls=1, elements=elements,
            formula="f n D / t gradients of embedded tokens and their f n ids, which is less than V D / t",
            source="each device adds up the rows of the embedding that it stores",
        )  # fmt: skip


def of_context(sizes: Sizes) -> Iterator[Allowance]:
    """Keys and values of all tokens of a row, in the heads that attend to them."""
    model = sizes.model
    elements = sizes.row_tokens * model.num_heads * model.head_size // sizes.tensor
    for kind, calls in (("all_gather", 2 * sizes.attends), ("reduce_scatter", 2)):
        yield Allowance(
            kind=kind, axes=("sequence",), tensor="", dtype=sizes.compute, elements=elements,
            calls=model.layers * calls,
            formula="n' H E / t keys and as many values in each pass of attention; their gradients scattered",
            source="Liu et al., Ring Attention, section 3: every query sees the keys and values of all blocks",
        )  # fmt: skip


def of_scalars(sizes: Sizes) -> Iterator[Allowance]:
    """Sums of losses, weights and squares, over every set of axes."""
    axes = tuple(axis for axis in sizes.mesh.axes)
    yield Allowance(
        kind="all_reduce", axes=axes, tensor="", dtype=sizes.wide, elements=1, calls=len(sizes.contract.shapes) + 8,
        formula="one number for each parameter and metric", source="clipping by the global norm",
    )  # fmt: skip


def of_judged(sizes: Sizes) -> Iterator[Allowance]:
    """What a step sends besides where it is judged: in each slice activations are handed out with all their tokens.

    Small sums go over any of the axes.
    """
    layers = sizes.model.layers
    yield Allowance(
        kind="all_gather", axes=("tensor",), tensor="", dtype=sizes.compute, elements=sizes.tokens * sizes.model.hidden,
        calls=(3 * layers + 2) * sizes.slices, formula="n D for three observations of each layer, and two of the ends",
        source="observations are sharded by rows and by tokens over sequence",
    )  # fmt: skip
    yield from _of_moved_vectors(sizes)
    for axes in subsets(sizes.mesh.axes):
        yield Allowance(
            kind="all_reduce", axes=axes, tensor="", dtype=sizes.wide, elements=1,
            calls=len(sizes.contract.shapes) + 8, formula="one number for each parameter and metric",
            source="clipping by the global norm",
        )  # fmt: skip


def _of_moved_vectors(sizes: Sizes) -> Iterator[Allowance]:
    """A vector that several axes divide is computed with in another order than it is stored in, and its parts move.

    Where four axes divide or copy it, parts are brought together along one of them first.
    """
    wide_axes = tuple(axis for axis in sizes.mesh.axes if sizes.mesh.size(axis) > 1)
    for name, elements, layers in sizes.stored():
        related = {*sizes.copy_axes(name), *sizes.shard_axes(name), "tensor"}
        several = tuple(axis for axis in wide_axes if axis in related)
        fewest = 1 if len(several) > 3 else 2
        for axes in () if name.endswith(".weight") else subsets(several):
            if len(axes) >= fewest:
                yield Allowance(
                    kind="permute", axes=axes, tensor=name, dtype=sizes.wide, elements=elements,
                    calls=layers * (sizes.twice + 2) * sizes.slices, formula="W / t in each pass of each layer",
                    source="of a vector each axis divides the same dim",
                )  # fmt: skip


def subsets(axes: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """All that are not empty, in mesh order."""
    return chain.from_iterable(combinations(axes, number) for number in range(1, len(axes) + 1))
