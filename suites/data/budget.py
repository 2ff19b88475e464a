"""What full sharding adds to a budget at most, where a partitioner chooses. Framework-neutral.

Names of sizes besides those of `suites.training.budget`: f devices of the shard axis, P elements of a parameter as it
is stored, padding included; B rows of a slice on all devices.
Source: Rajbhandari et al., ZeRO, section 7: parameters are gathered for the forward pass and gradients reduced once.
The second gather of that section, for the backward pass, frees memory; a partitioner keeps what it has gathered.
"""

from __future__ import annotations

from collections.abc import Iterator

from conformance.contract.budget import Allowance
from conformance.contract.implementation import CollectiveKind
from suites.data.layout import ShardedState
from suites.tensor.budget import TensorSizes, of_feedforward, of_training

ZERO = "Rajbhandari et al., ZeRO, section 7"
GATHERED = "P in each forward pass of each slice, and is kept; a vector once more, backward"
CUT = "what does not divide is cut before it is used: its gradient is summed whole, and so is a table's, by token"


class ShardedSizes(TensorSizes):
    """`layout` is a training step that is fully sharded besides."""

    def gradients(self) -> Iterator[Allowance]:
        return of_state(self)


def of_state(sizes: TensorSizes) -> Iterator[Allowance]:
    """Parameters, gradients, and the matrices that an optimizer needs whole."""
    layout = sizes.layout
    assert isinstance(layout, ShardedState)
    shards = (layout.shard_axis,)
    for name, shape in sizes.contract.shapes.items():
        whole, times = sizes.stored(name) * layout.shard_size(), sizes.slices * sizes.uses(name)
        yield Allowance(
            kind="all_gather", axes=shards, tensor=name, dtype=layout.stored_dtype, elements=whole,
            calls=times * (1 + (len(shape) == 1) + sizes.again), formula=GATHERED, source=ZERO,
        )  # fmt: skip
        yield from _of_gradient(sizes, layout, name)
        if sizes.contract.recipe.optimizer == "muon" and len(shape) > 1:
            yield Allowance(
                kind="all_gather", axes=shards, tensor=name, dtype=sizes.wide, elements=whole, calls=1,
                formula="P once", source="Jordan et al., Muon: the product of a matrix with itself needs it whole",
            )  # fmt: skip


def _of_gradient(sizes: TensorSizes, layout: ShardedState, name: str) -> Iterator[Allowance]:
    """Reduced over the shard axis, then over the other data axes; over all of them at once where it is cut."""
    shape, parts = sizes.contract.shapes[name], layout.shard_size()
    block, times = sizes.stored(name), sizes.slices * sizes.uses(name)
    others = tuple(axis for axis in layout.data_axes if axis != layout.shard_axis)
    is_even = shape[layout.shard_dim(name)] % (parts * layout.others(name)) == 0
    is_cut = len(shape) == 1 or name == "embedding.weight" or not is_even
    reduced: CollectiveKind = "all_reduce" if is_cut else "reduce_scatter"
    for kind, axes, elements, formula, source in (
        (reduced, (layout.shard_axis,), block * parts, "P once for each slice", CUT if is_cut else ZERO),
        ("all_reduce", others, block, "P / f once for each slice", ZERO),
    ):
        yield Allowance(
            kind=kind, axes=axes, tensor=name, dtype=sizes.wide, elements=elements, calls=times, formula=formula,
            source=source,
        )  # fmt: skip
    if others and is_cut:
        yield Allowance(
            kind="all_reduce", axes=layout.data_axes, tensor=name, dtype=sizes.wide, elements=block * parts,
            calls=times, formula="P once for each slice", source=CUT,
        )  # fmt: skip


def contrastive(sizes: TensorSizes) -> Iterator[Allowance]:
    """Two towers, whose embeddings every device compares with those of all rows."""
    yield from of_training(sizes)
    yield from of_feedforward(sizes, 2)
    rows = sizes.tokens * sizes.layout.size(sizes.layout.data_axes)
    axes, total = sizes.layout.data_axes, rows * sizes.model.hidden
    for kind, elements, calls, formula in (
        ("all_gather", total, 2, "B D, the embeddings of each tower"),
        ("reduce_scatter", total, 2, "B D, their gradients"),
        ("all_gather", rows, 8, "B, masks, own pairs and their places, forward and backward"),
    ):
        yield Allowance(
            kind=kind, axes=axes, tensor="", dtype=sizes.wide, elements=elements, calls=calls * sizes.slices,
            formula=formula, source="Radford et al., CLIP, figure 3: similarities of all pairs of a batch",
        )  # fmt: skip
