"""What every training step may communicate at most where a partitioner chooses: gradients and sums. Framework-neutral.

A layout carries contract, mesh, dtype and where everything lies. Names of sizes: S slices of the batch, W elements of a
parameter, D hidden features, n tokens of a device in one slice (rows over the row axes, tokens over the token axes).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain, combinations

from conformance.contract.budget import Allowance
from conformance.contract.placements import sharded_dim
from suites.training.state_layout import ShardedTraining

EACH_SLICE = "a partitioner sums a gradient where it is made, which is inside the loop over slices"


class Sizes:
    """The numbers that the formulas are made of."""

    def __init__(self, layout: ShardedTraining) -> None:
        self.layout, self.contract, self.mesh = layout, layout.contract, layout.mesh
        self.model, recipe = layout.contract.model, layout.contract.recipe
        self.compute = recipe.precision.dtype("compute", layout.dtype)
        self.wide = "float64" if layout.dtype == "float64" else "float32"
        self.slices = recipe.accumulation
        self.again = int(recipe.recompute == "layer")  # further forward passes of a layer
        self.tokens = math.prod(layout.contract.batch_shapes["mask"]) // layout.size(layout.data_axes) // self.slices

    @property
    def hidden(self) -> int:
        return self.tokens * self.model.hidden

    def stored(self, name: str) -> int:
        """Elements of the gradient of a parameter that one device keeps."""
        placements, positions = self.layout.gradient_placements(name), self.layout.gradient_positions(name)
        axes = tuple(axis for axis, placement in placements.items() if sharded_dim(placement) is not None)
        return math.prod(self.layout.arranged_shape(name, positions)) // self.layout.size(axes)

    def uses(self, name: str) -> int:
        """How often a parameter is applied: a tied table in front of the layers and behind them."""
        return 2 if name == "embedding.weight" and self.model.tied else 1


def of_gradients(sizes: Sizes) -> Iterator[Allowance]:
    """Summed over the axes that divide the data, as they are stored; a vector may be summed whole."""
    for name, shape in sizes.contract.shapes.items():
        elements = sizes.stored(name) if len(shape) > 1 else math.prod(shape)
        yield Allowance(
            kind="all_reduce", axes=sizes.layout.data_axes, tensor=name, dtype=sizes.wide, elements=elements,
            calls=sizes.slices * sizes.uses(name), formula="W of a device, S times, for each use", source=EACH_SLICE,
        )  # fmt: skip


def of_scalars(sizes: Sizes) -> Iterator[Allowance]:
    """Sums of losses and weights in each slice, squares of each gradient: over any set of axes."""
    lamb = sizes.contract.recipe.optimizer == "lamb"
    axes = [axis for axis in sizes.mesh.axes if sizes.mesh.size(axis) > 1]
    for chosen in chain.from_iterable(combinations(axes, number) for number in range(1, len(axes) + 1)):
        yield Allowance(
            kind="all_reduce", axes=chosen, tensor="", dtype=sizes.wide, elements=1,
            calls=4 * sizes.slices + (3 if lamb else 1) * len(sizes.contract.shapes) + 4,
            formula="4 S + 4, and one for each parameter, under LAMB three",
            source="means over the batch, clipping by the global norm; You et al., LAMB, section 3: norms of layers",
        )  # fmt: skip
