"""The collectives of `jax.lax`, differentiated by JAX itself.

JAX has no rule for the gradient of `pmax`, and no broadcast: the former is stated here, the latter is a sum to which
one device alone contributes.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from conformance.contract.implementation import CollectiveKind, Phase
from suites.collectives.jax_manual.functions import Pairs
from suites.collectives.jax_manual.step import RowStep
from suites.training.traffic import Transfer

_LOWEST = {"max": -jnp.inf, "min": jnp.inf}


class Native(RowStep):
    """Every collective over all axes of the contract at once."""

    def all_reduce(self, x: jax.Array, reduction: str) -> jax.Array:
        if not self.axes_used:
            return x
        return (jax.lax.pmean if reduction == "mean" else jax.lax.psum)(x, self.axes_used)

    def all_gather(self, x: jax.Array, dim: int) -> jax.Array:
        return jax.lax.all_gather(x, self.axes_used, axis=dim, tiled=True) if self.axes_used else x

    def reduce_scatter(self, x: jax.Array, dim: int) -> jax.Array:
        return jax.lax.psum_scatter(x, self.axes_used, scatter_dimension=dim, tiled=True) if self.axes_used else x

    def all_to_all(self, x: jax.Array, split: int, concat: int) -> jax.Array:
        return jax.lax.all_to_all(x, self.axes_used, split, concat, tiled=True) if self.axes_used else x

    def permute(self, x: jax.Array, pairs: Pairs) -> jax.Array:
        if not self.axes_used:
            return x if pairs else jnp.zeros_like(x)
        return jax.lax.ppermute(x, self.axes_used, pairs)

    def broadcast(self, x: jax.Array, source: int) -> jax.Array:
        return self.all_reduce(jnp.where(self.rank() == source, x, jnp.zeros_like(x)), "sum")

    def extreme(self, x: jax.Array, reduction: str) -> jax.Array:
        extreme = jax.custom_vjp(lambda x: self.extreme_of(x, reduction))

        def forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            y = self.extreme_of(x, reduction)
            return y, (x, y)

        def backward(kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array]:
            return (jnp.where(kept[0] == kept[1], self.seen(self.extreme_gradient, g), 0),)

        extreme.defvjp(forward, backward)
        return extreme(x)

    def extreme_gradient(self, g: jax.Array) -> jax.Array:
        """All devices have read the result: what comes back is the sum of their gradients."""
        return self.all_reduce(g, "sum")

    def extreme_of(self, x: jax.Array, reduction: str) -> jax.Array:
        """Over the rows that are there."""
        if self.model.rows % self.devices:
            x = jnp.where(self.are_rows()[:, None, None], x, _LOWEST[reduction])
        local = jnp.max(x, 0) if reduction == "max" else jnp.min(x, 0)
        return self.seen(lambda z: self.extreme_of_devices(z, reduction), local)

    def extreme_of_devices(self, x: jax.Array, reduction: str) -> jax.Array:
        if not self.axes_used:
            return x
        return (jax.lax.pmax if reduction == "max" else jax.lax.pmin)(x, self.axes_used)

    def collective_transfers(self, kind: CollectiveKind, phase: Phase, dtype: str) -> Iterator[Transfer]:
        """A broadcast and its transpose are sums."""
        yield from super().collective_transfers("all_reduce" if kind in ("broadcast", "reduce") else kind, phase, dtype)
