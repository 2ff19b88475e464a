"""Faults written with JAX's own API."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from suites.collectives.faults import Conforming, native


def _with_gradient(forward, backward, x):
    """forward(x), differentiated by what is given for its transpose."""
    mapped = jax.custom_vjp(forward)
    mapped.defvjp(lambda x: (forward(x), None), lambda _, g: (backward(g),))
    return mapped(x)


class MaximumInsteadOfSum(Conforming):
    """The reduction is the wrong one."""

    def all_reduce(self, x, reduction):
        return _with_gradient(lambda z: jax.lax.pmax(z, self.axes_used), lambda g: jax.lax.psum(g, self.axes_used), x)


class GradientOfSumNotSummed(Conforming):
    """A sum that all devices read is differentiated as if one of them did."""

    def all_reduce(self, x, reduction):
        return _with_gradient(lambda z: super(GradientOfSumNotSummed, self).all_reduce(z, reduction), lambda g: g, x)


class GradientOfGatherNotReduced(Conforming):
    """Every device keeps the gradient of its own reading of its own part."""

    def all_gather(self, x, dim):
        def own(g):
            return jax.lax.dynamic_slice_in_dim(g, self.rank() * x.shape[dim], x.shape[dim], dim)

        return _with_gradient(lambda z: super(GradientOfGatherNotReduced, self).all_gather(z, dim), own, x)


class GradientOfScatterNotGathered(Conforming):
    """The gradient of a device's part comes back to that part of its own operand alone."""

    def reduce_scatter(self, x, dim):
        def alone(g):
            return jax.lax.dynamic_update_slice_in_dim(jnp.zeros_like(x), g, self.rank() * g.shape[dim], dim)

        return _with_gradient(lambda z: super(GradientOfScatterNotGathered, self).reduce_scatter(z, dim), alone, x)


class GradientOfExchangeNotTransposed(Conforming):
    """The gradient of an all-to-all is another one with the same dims, whose blocks arrive in the wrong places."""

    def all_to_all(self, x, split, concat):
        def same_way(g):
            back = jax.lax.all_to_all(g, self.axes_used, concat, split, tiled=True)
            return jnp.roll(back, x.shape[split] // self.devices, split)

        return _with_gradient(
            lambda z: super(GradientOfExchangeNotTransposed, self).all_to_all(z, split, concat), same_way, x
        )


class GradientMovesOn(Conforming):
    """The gradient of a permute travels the same way as the rows."""

    def permute(self, x, pairs):
        def on(g):
            return super(GradientMovesOn, self).permute(g, pairs)

        return _with_gradient(on, on, x)


class GradientOfBroadcastNotSummed(Conforming):
    """The device that broadcasts keeps the gradient of its own reading."""

    def broadcast(self, x, source):
        def forward(z):
            return super(GradientOfBroadcastNotSummed, self).broadcast(z, source)

        return _with_gradient(forward, lambda g: jnp.where(self.rank() == source, g, 0), x)


class GradientOfMaximumNotSummed(Conforming):
    """The row that has the maximum is given the gradient of its own device alone."""

    def extreme_gradient(self, g):
        return g


class PartsRolled(Conforming):
    """Parts are gathered one device further round."""

    def all_gather(self, x, dim):
        return jnp.roll(super().all_gather(x, dim), x.shape[dim], dim)


class ScatteredToNext(Conforming):
    """Every device is given the part of the next one."""

    def reduce_scatter(self, x, dim):
        return super().reduce_scatter(jnp.roll(x, -(x.shape[dim] // self.devices), dim), dim)


class BlocksRolled(Conforming):
    """Blocks of an all-to-all are taken one device further round."""

    def all_to_all(self, x, split, concat):
        return super().all_to_all(jnp.roll(x, x.shape[split] // self.devices, split), split, concat)


class LastFeatureDropped(Conforming):
    """Features that do not divide are cut off, and zeros stand in their place."""

    def fill_features(self, x, dim):
        whole = self.model.features // self.devices * self.devices
        cut = jax.lax.slice_in_dim(x, 0, whole, axis=dim)
        return super().fill_features(
            jnp.concatenate([cut, jnp.zeros_like(jax.lax.slice_in_dim(x, whole, None, axis=dim))], dim), dim
        )


class ThroughFloat32(native.ThroughFloat32):
    def is_whole(self, x):
        return jnp.issubdtype(x.dtype, jnp.integer)

    def cast(self, x, dtype):
        return x.astype(dtype)
