"""A value of a mesh on one device: the blocks of all ranks, stacked, with what each of them is a block of.

Law: `whole(spread_out(x, layout)) == x`; blocks that are said to be copies stay one for each rank.

Dims of `blocks`: one for each mesh axis, in mesh order, then those of a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec


@dataclass(frozen=True, kw_only=True)
class SpreadLayout:
    """The mesh axes with their sizes, and for each dim the axes that divide it, outermost first."""

    axes: tuple[tuple[str, int], ...]
    dims: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, spec: PartitionSpec, ndim: int, axes: tuple[tuple[str, int], ...]) -> SpreadLayout:
        known = dict(axes)
        entries = [() if entry is None else (entry,) if isinstance(entry, str) else tuple(entry) for entry in spec]
        entries += [()] * (ndim - len(entries))
        return cls(axes=axes, dims=tuple(tuple(axis for axis in entry if axis in known) for entry in entries))

    @property
    def spec(self) -> PartitionSpec:
        return PartitionSpec(*(entry or None for entry in self.dims))

    @property
    def used(self) -> frozenset[str]:
        return frozenset(axis for entry in self.dims for axis in entry)

    def divisor(self, dim: int) -> int:
        return math.prod(dict(self.axes)[axis] for axis in self.dims[dim])


@partial(jax.tree_util.register_dataclass, data_fields=["blocks"], meta_fields=["layout"])
@dataclass(frozen=True, kw_only=True)
class Spread:
    """What every rank has of one tensor."""

    blocks: Any
    layout: SpreadLayout

    @property
    def block_shape(self) -> tuple[int, ...]:
        return tuple(self.blocks.shape[len(self.layout.axes) :])

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the whole tensor."""
        return tuple(size * self.layout.divisor(dim) for dim, size in enumerate(self.block_shape))


def is_spread(value: Any) -> bool:
    return isinstance(value, Spread)


def spread_out(value: Any, layout: SpreadLayout) -> Spread:
    """The blocks of a whole tensor; of one that is spread out in the same way already, those that it has."""
    if isinstance(value, Spread):
        if value.layout == layout:
            return value
        value = whole(value)
    shape: list[int] = []
    where: dict[str, int] = {}
    for dim, entry in enumerate(layout.dims):
        for axis in entry:
            where[axis] = len(shape)
            shape.append(dict(layout.axes)[axis])
        shape.append(value.shape[dim] // layout.divisor(dim))
    divided = [axis for axis, _ in layout.axes if axis in where]
    blocks = jnp.moveaxis(jnp.reshape(value, shape), [where[axis] for axis in divided], range(len(divided)))
    for number, (axis, size) in enumerate(layout.axes):
        if axis not in where:
            blocks = jnp.repeat(jnp.expand_dims(blocks, number), size, number)
    return Spread(blocks=blocks, layout=layout)


def whole(value: Any) -> Any:
    """The whole tensor; of blocks that are copies, the one at the first place on the axes that do not divide it."""
    if not isinstance(value, Spread):
        return value
    layout, blocks = value.layout, value.blocks
    kept = [axis for axis, _ in layout.axes if axis in layout.used]
    for number in reversed(range(len(layout.axes))):
        if layout.axes[number][0] not in layout.used:
            blocks = blocks[(slice(None),) * number + (0,)]
    order = []
    for dim, entry in enumerate(layout.dims):
        order += [*(kept.index(axis) for axis in entry), len(kept) + dim]
    return jnp.transpose(blocks, order).reshape(value.shape)


def per_rank(function: Callable[..., Any], values: list[Any], layout: SpreadLayout) -> list[Any]:
    """The function of every rank's blocks; what is not spread out is the same on all ranks."""
    ranks = math.prod(size for _, size in layout.axes)
    flat = [v.blocks.reshape(ranks, *v.block_shape) if is_spread(v) else v for v in values]
    outs = jax.vmap(function, in_axes=[0 if is_spread(v) else None for v in values], axis_size=ranks)(*flat)
    sizes = [size for _, size in layout.axes]
    return [out.reshape(*sizes, *out.shape[1:]) for out in outs]
