"""Sums and gathers by algorithms made of `ppermute`, in the place of those of `jax.lax`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from suites.collectives.by_algorithm import ByAlgorithm, PickedByModel
from suites.collectives.jax_manual.executor import carried_out
from suites.collectives.jax_manual.native import Native
from suites.collectives.schedule import ALL_GATHER, ALL_REDUCE, REDUCE_SCATTER, Cost

Map = Callable[[jax.Array], jax.Array]


class Algorithmic(ByAlgorithm, Native):
    """The transpose of a collective goes by the same algorithm."""

    @staticmethod
    def messages_of(cost: Cost) -> tuple[int, int]:
        """Every device takes part in every permute of the one program."""
        return cost.permutes, cost.permuted

    def all_reduce(self, x: jax.Array, reduction: str) -> jax.Array:
        summed = partial(self.summed, axes=self.axes_used)
        return _linear(summed, summed)(x)

    def all_gather(self, x: jax.Array, dim: int) -> jax.Array:
        return _linear(partial(self.gathered, dim=dim), partial(self.scattered, dim=dim))(x)

    def reduce_scatter(self, x: jax.Array, dim: int) -> jax.Array:
        return _linear(partial(self.scattered, dim=dim), partial(self.gathered, dim=dim))(x)

    # The three collectives on whole arrays, over one axis after the other.

    def summed(self, x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
        """The sum over some axes, whatever the shape of x; padded with zeros until it makes equal blocks."""
        if not axes:
            return x
        *outer, inner = axes
        if not outer:
            return _restored(self.run(ALL_REDUCE, _cut(x, self.schedule(ALL_REDUCE, inner).blocks), inner), x)
        blocks = _cut(x, self.mesh.size(inner))
        own = self.run(REDUCE_SCATTER, blocks, inner)[jax.lax.axis_index(inner)]
        own = self.summed(own, tuple(outer))
        return _restored(self.run(ALL_GATHER, self.alone(own, inner), inner), x)

    def gathered(self, x: jax.Array, dim: int) -> jax.Array:
        """Side by side along a dim, the first axis outermost; the last axis carries most and comes last."""
        parts = x[None]
        for axis in self.axes_used:
            own = parts.reshape(-1)
            all_parts = self.run(ALL_GATHER, self.alone(own, axis), axis)
            parts = all_parts.reshape(-1, *parts.shape).swapaxes(0, 1).reshape(-1, *x.shape)
        return jnp.concatenate(list(parts), dim)

    def scattered(self, x: jax.Array, dim: int) -> jax.Array:
        """The part along a dim that has this device's number; the last axis comes first."""
        parts = jnp.stack(jnp.split(x, self.devices, dim))
        shape = parts.shape[1:]
        for axis in reversed(self.axes_used):
            k = self.mesh.size(axis)
            blocks = parts.reshape(-1, k, *shape).swapaxes(0, 1).reshape(k, -1)
            own = self.run(REDUCE_SCATTER, blocks, axis)[jax.lax.axis_index(axis)]
            parts = own.reshape(-1, *shape)
        return parts[0]

    def alone(self, own: jax.Array, axis: str) -> jax.Array:
        """[blocks, elements] with this device's block in its place."""
        blocks = jnp.zeros((self.mesh.size(axis), own.size), own.dtype)
        return blocks.at[jax.lax.axis_index(axis)].set(own.reshape(-1))

    def run(self, collective: str, blocks: jax.Array, axis: str) -> jax.Array:
        """[blocks, elements] -> the same after the schedule of this axis."""
        return carried_out(self.schedule(collective, axis), blocks, axis)


def _linear(forward: Map, transpose: Map) -> Map:
    """A linear map that is differentiated by the transpose that is stated."""
    mapped = jax.custom_vjp(forward)
    mapped.defvjp(lambda x: (forward(x), None), lambda _, g: (transpose(g),))
    return mapped


def _cut(x: jax.Array, blocks: int) -> jax.Array:
    return jnp.pad(x.reshape(-1), (0, -x.size % blocks)).reshape(blocks, -1)


def _restored(blocks: jax.Array, like: jax.Array) -> jax.Array:
    return blocks.reshape(-1)[: like.size].reshape(like.shape)


class Ring(Algorithmic):
    algorithm = "ring"


class Tree(Algorithmic):
    algorithm = "tree"


class Halving(Algorithmic):
    algorithm = "halving"


class Hierarchical(Algorithmic):
    algorithm = "hierarchical"


class Direct(Algorithmic):
    algorithm = "direct"


class PerAxis(Algorithmic):
    """Another algorithm on each axis, as its network may want it."""

    algorithm = "ring"
    algorithms = {"data": "tree", "pipeline": "halving"}  # noqa: RUF012


class Picked(PickedByModel, Algorithmic):
    """The one that is predicted to be quickest on the network of each axis."""
