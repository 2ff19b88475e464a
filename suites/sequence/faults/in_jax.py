"""Faults written with JAX's own API."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from suites.tensor.faults import Conforming


class ExponentialsUnshifted(Conforming):
    """The largest score of a block is not subtracted before the exponential: right until it overflows."""

    def block_log_sum_exp(self, scores):
        lse = super().block_log_sum_exp(scores)
        return lse._replace(largest=0 * lse.largest, rest=jnp.log(jnp.sum(jnp.exp(scores), axis=-1)))


class PartialOutputsInBfloat16(Conforming):
    """What is merged with every block is rounded to bfloat16."""

    def merge(self, old, new):
        merged, lse = super().merge(old, new)
        return merged.astype(jnp.bfloat16).astype(merged.dtype), lse


class TensorSumsInBfloat16(Conforming):
    """Gradients of what is replicated over the tensor axis are summed there in bfloat16."""

    def sum_gradient(self, name, g):
        if not self.is_partial(name):
            return super().sum_gradient(name, g)
        g = self.sum_over_tensor(g.astype(jnp.bfloat16)).astype(g.dtype)
        return self.reduced(g, lambda x: self.sum_over(self.axes_of_gradient(name), x))


class KeyGradientsInBfloat16(Conforming):
    """Gradients of keys and values are rounded to bfloat16 before every step round the ring."""

    def pass_on(self, x):
        if not isinstance(x, tuple) or len(x) != 2:
            return super().pass_on(x)
        passed = super().pass_on(tuple(g.astype(jnp.bfloat16) for g in x))
        return tuple(g.astype(self.master) for g in passed)


class OtherMaskInBackward(Conforming):
    """The backward pass computes the layer again without restoring the generator, and drops other values."""

    def dropout(self, x, site, batch, observed):
        y = super().dropout(x, site, batch, observed)
        if not self.recomputes:
            return y
        again = super().dropout(x, site, batch | {"seeds": batch["seeds"] + 1}, {})
        return again + jax.lax.stop_gradient(y - again)


class GradientNotCollected(Conforming):
    """The gradient of the projections is taken from before the all-to-all that returns it to its rank."""

    def tokens_to_heads(self, x):
        return _exchange_forwards(x, super().tokens_to_heads)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _exchange_forwards(x, exchange):
    return exchange(x)


def _uncollected(exchange, like, g):
    return (g.reshape(like.shape),)


_exchange_forwards.defvjp(lambda x, exchange: (exchange(x), x), _uncollected)
