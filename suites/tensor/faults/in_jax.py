"""Faults and controls written with JAX's own API."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from suites.tensor.faults import Conforming, controls, updates


class PsumDifferentiatedAsPsum(Conforming):
    """A plain psum under `check_vma=False`: its gradient is summed over the devices once more."""

    def reduce_from_tensor(self, x):
        return jax.lax.psum(x, self.tensor_axis)


class GradientOfSplitNotGathered(Conforming):
    """A slice is differentiated as one: its gradient is that of this device's features, and zeros beside it."""

    def split_to_tensor(self, x, dim):
        width = x.shape[dim] // self.tensor_size()
        return jax.lax.dynamic_slice_in_dim(x, self.tensor_rank() * width, width, dim % x.ndim)


class ReducedInBfloat16(Conforming):
    """Partial sums are rounded to bfloat16 before they are added up."""

    def leave_block(self, y):
        if self.tensor_size() == 1:  # nothing is partial
            return super().leave_block(y)
        return super().leave_block(y.astype(jnp.bfloat16)).astype(y.dtype)


class ZTermOfLocalVocabulary(Conforming):
    """The z term takes the log-sum-exp of this device's ids."""

    def token_losses(self, logits, targets):
        entropy, _ = super().token_losses(logits, targets)
        local = jax.nn.logsumexp(self.real(logits, -jnp.inf), axis=-1)
        return entropy, self.contract.model.z_loss * local * local


class KeyGradientsTransposed(Conforming):
    """The gradients of keys and values come back with tokens and heads exchanged."""

    def attend(self, q, k, v, batch):
        return super().attend(q, _transposed_gradient(k), _transposed_gradient(v), batch)


@jax.custom_vjp
def _transposed_gradient(x):
    return x


_transposed_gradient.defvjp(lambda x: (x, None), lambda _, g: (g.swapaxes(1, 2),))


class EarlySlicesNotReduced(updates.EarlySlicesNotReduced):
    def join(self, parts):
        return jnp.concatenate(parts)


class Recomputed(controls.Recomputed):
    """Through `jax.checkpoint`."""

    def decoder_layer(self, x, batch, name, p, observed):
        def layer(x, p):
            seen: dict = {}
            return super(Recomputed, self).decoder_layer(x, batch, name, p, seen), seen

        x, seen = jax.checkpoint(layer)(x, p)
        observed |= seen
        return x


class SumInTwoParts(controls.SumInTwoParts):
    def leave_block(self, y):
        return _scatter_and_gather(y, self.tensor_axis)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _scatter_and_gather(y, axis):
    part = jax.lax.psum_scatter(y, axis, scatter_dimension=y.ndim - 1, tiled=True)
    return jax.lax.all_gather(part, axis, axis=y.ndim - 1, tiled=True)


_scatter_and_gather.defvjp(lambda y, axis: (_scatter_and_gather(y, axis), None), lambda axis, _, g: (g,))
