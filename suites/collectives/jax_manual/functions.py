"""Functions of rows by collectives: what each device does before and after the one that it takes part in.

B: rows of a device, V: all rows, N: features, M: lanes of a device
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial

import jax
import jax.numpy as jnp

from suites.collectives.layout import RowsOverAxes

Pairs = list[tuple[int, int]]  # (source, destination)


class RowFunctions(RowsOverAxes):
    """The function of a contract. Without several devices there is nothing to communicate."""

    # The collectives, over the axes of the contract. A subclass has them; each is differentiable.

    @abstractmethod
    def all_reduce(self, x: jax.Array, reduction: str) -> jax.Array:
        """`sum` or `mean` of the x of all devices."""

    @abstractmethod
    def all_gather(self, x: jax.Array, dim: int) -> jax.Array:
        """The x of all devices side by side along a dim."""

    @abstractmethod
    def reduce_scatter(self, x: jax.Array, dim: int) -> jax.Array:
        """This device's part along a dim of the sum."""

    @abstractmethod
    def all_to_all(self, x: jax.Array, split: int, concat: int) -> jax.Array:
        """Part i along one dim goes to device i; what arrives lies side by side along another."""

    @abstractmethod
    def permute(self, x: jax.Array, pairs: Pairs) -> jax.Array:
        """What the source of this device sends, zeros where it has none."""

    @abstractmethod
    def broadcast(self, x: jax.Array, source: int) -> jax.Array:
        """The x of one device on all of them."""

    @abstractmethod
    def extreme(self, x: jax.Array, reduction: str) -> jax.Array:
        """`max` or `min` over the rows of all devices; its gradient goes to the row that has it."""

    # The functions.

    def function(self, x_BNM: jax.Array) -> jax.Array:
        return getattr(self, f"by_{self.model.collective}")(self.without_padding(x_BNM))

    def without_padding(self, x_BNM: jax.Array) -> jax.Array:
        """Rows that are only there to fill up the last devices: zeros, and nothing comes back to them."""
        if self.model.rows % self.devices == 0:
            return x_BNM
        return jnp.where(self.are_rows()[:, None, None], x_BNM, 0)

    def are_rows(self) -> jax.Array:
        return self.rank() * self.local_rows + jnp.arange(self.local_rows) < self.model.rows

    def rank(self) -> jax.Array | int:
        return jax.lax.axis_index(self.axes_used) if self.axes_used else 0

    def by_all_reduce(self, x_BNM: jax.Array) -> jax.Array:
        reduction = self.model.function
        if reduction in ("max", "min"):
            return self.extreme(x_BNM, reduction)
        local_NM = jnp.mean(x_BNM, 0) if reduction == "mean" else self.summed_rows(x_BNM)
        return self.seen(partial(self.all_reduce, reduction=reduction), local_NM)

    def by_all_gather(self, x_BNM: jax.Array) -> jax.Array:
        return self.seen(self.all_gather, x_BNM, 0)[: self.model.rows]

    def by_reduce_scatter(self, x_BNM: jax.Array) -> jax.Array:
        return self.seen(self.reduce_scatter, self.fill_features(self.summed_rows(x_BNM), 0), 0)

    def by_all_to_all(self, x_BNM: jax.Array) -> jax.Array:
        y_VNM = self.seen(self.all_to_all, self.fill_features(x_BNM, 1), 1, 0)
        return y_VNM[: self.model.rows].swapaxes(0, 1)

    def by_permute(self, x_BNM: jax.Array) -> jax.Array:
        k, function = self.devices, self.model.function
        if function == "reverse":
            return self.seen(partial(self.permute, pairs=[(i, k - 1 - i) for i in range(k)]), x_BNM)[::-1]
        pairs = [(i, i + 1) for i in range(k - 1)] + ([(k - 1, 0)] if function == "roll" else [])
        return jnp.concatenate([self.seen(partial(self.permute, pairs=pairs), x_BNM[-1:]), x_BNM[:-1]])

    def by_broadcast(self, x_BNM: jax.Array) -> jax.Array:
        source, row = divmod(self.model.root, self.local_rows)
        return self.seen(partial(self.broadcast, source=source), x_BNM[row])

    def summed_rows(self, x_BNM: jax.Array) -> jax.Array:
        """In their own dtype, whole numbers too."""
        return jnp.sum(x_BNM, 0, dtype=x_BNM.dtype)

    def fill_features(self, x: jax.Array, dim: int) -> jax.Array:
        """Zeros behind the last feature until they divide."""
        missing = self.devices * self.local_features - self.model.features
        return jnp.pad(x, [(0, missing if d == dim else 0) for d in range(x.ndim)]) if missing else x

    def seen(self, collective, x: jax.Array, *dims: int) -> jax.Array:
        """A collective on x as the contract wants x seen: strided, with its lanes in front."""
        if not self.model.strided:
            return collective(x, *dims)
        return jnp.moveaxis(collective(jnp.moveaxis(x, -1, 0), *(dim + 1 for dim in dims)), 0, -1)
