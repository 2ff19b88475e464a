"""Collectives made of `all_gather` over one axis at a time, for axes that are those of a nested `vmap`.

Not every batching rule of `jax.lax` knows two named axes at once (all_to_all fails, jax 0.10.2). What a gather under
`vmap` gives is the stacked operand itself, so nothing is copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

if TYPE_CHECKING:
    from conformance.trace.jax_collectives import Call


def gathered(call: Call, x: Any) -> Any:
    """The result of an all_gather, reduce_scatter, all_to_all or permute, made of gathers, sums and slices."""
    if call.kind == "reduce_scatter":
        return _block(lax.psum(x, call.name), call, call.dim)
    parts = _stacked(x, call)  # [size, ...]
    if call.kind == "all_gather":
        return _joined(parts, call.dim) if call.tiled else jnp.moveaxis(parts, 0, call.dim)
    if call.kind == "permute":
        return _received(parts, call)
    mine = _block(parts, call, call.dim + 1)
    return _joined(mine, call.concat) if call.tiled else jnp.moveaxis(mine, 0, call.concat)


def _stacked(x: Any, call: Call) -> Any:
    """The operands of all partners along a new first dim, in the order of their number: the first axis is outermost."""
    for axis in reversed(call.axes):
        x = lax.all_gather(x, axis)
    return x.reshape(call.size, *x.shape[len(call.axes) :])


def _joined(parts: Any, dim: int) -> Any:
    moved = jnp.moveaxis(parts, 0, dim)
    return moved.reshape(*moved.shape[:dim], -1, *moved.shape[dim + 2 :])


def _block(x: Any, call: Call, dim: int) -> Any:
    """The block along a dim that has this device's number."""
    width = x.shape[dim] // call.size
    block = lax.dynamic_slice_in_dim(x, lax.axis_index(call.name) * width, width, dim)
    return block if call.tiled else jnp.squeeze(block, dim)


def _received(parts: Any, call: Call) -> Any:
    """What the source of this device has; zeros where it has none."""
    sources, has_source = np.zeros(call.size, np.int32), np.zeros(call.size, bool)
    for source, destination in call.pairs:
        sources[destination], has_source[destination] = source, True
    me = lax.axis_index(call.name)
    part = lax.dynamic_index_in_dim(parts, jnp.asarray(sources)[me], keepdims=False)
    return jnp.where(jnp.asarray(has_source)[me], part, jnp.zeros_like(part))
