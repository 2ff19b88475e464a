"""The operators of sequence parallelism: what each does to activations, and to their gradients.

Law of a pair: the gradient of a gather is a reduce-scatter, that of a reduce-scatter is a gather. Gathered tokens meet
different weights on every device, so their gradient is a sum over them, not the mere split that would undo the gather.
Source: Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, section 4.2.2 (g and g-bar).
"""

from __future__ import annotations

from functools import partial

import jax


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def gather_along(x: jax.Array, axis: str, dim: int) -> jax.Array:
    """Blocks of all devices side by side along dim; the gradients of all devices are summed, each keeps its block."""
    return jax.lax.all_gather(x, axis, axis=dim, tiled=True)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def scatter_along(x: jax.Array, axis: str, dim: int) -> jax.Array:
    """Sum over the devices, of which each keeps its block along dim; the blocks of the gradient are gathered."""
    return jax.lax.psum_scatter(x, axis, scatter_dimension=dim, tiled=True)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def exchange(x: jax.Array, axis: str, split: int, join: int) -> jax.Array:
    """All-to-all: cut along one dim, one piece for each device, joined along another; its gradient goes back alike."""
    return jax.lax.all_to_all(x, axis, split, join, tiled=True)


gather_along.defvjp(
    lambda x, axis, dim: (gather_along(x, axis, dim), None),
    lambda axis, dim, _, g: (jax.lax.psum_scatter(g, axis, scatter_dimension=dim, tiled=True),),
)
scatter_along.defvjp(
    lambda x, axis, dim: (scatter_along(x, axis, dim), None),
    lambda axis, dim, _, g: (jax.lax.all_gather(g, axis, axis=dim, tiled=True),),
)
exchange.defvjp(
    lambda x, axis, split, join: (exchange(x, axis, split, join), None),
    lambda axis, split, join, _, g: (jax.lax.all_to_all(g, axis, join, split, tiled=True),),
)
