"""Sequence parallelism whose gathers are overlapped with the products that need them.

Instead of gathering all tokens and then multiplying, every device multiplies the tokens at hand while it hands them on
round a ring; each product goes where its tokens stand. The gradient of the tokens is reduce-scattered likewise.
Source: Wang et al., Overlap Communication with Dependent Computation via Decomposition in Large Deep Learning Models.

x: tokens of the stream  y: tokens of a block  w: [in, out]
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp

from suites.sequence.jax_manual import sequence_parallel
from suites.sequence.jax_manual.sequence_parallel import SequenceParallel
from suites.sequence.step_budget import RING_COLUMNS, RING_PRODUCTS, ROWS
from suites.training.jax.state import Named
from suites.training.step_budget import Budgets


class RingMatmul(SequenceParallel):
    """Law: y = gather(x) w; the gradient of x is reduce-scatter(g w'), that of w is gather(x)' g."""

    sends: ClassVar[Budgets] = RING_PRODUCTS

    def enter_block(self, x: jax.Array) -> jax.Array:
        """No gather here: each product gathers its own tokens."""
        return x

    def column_linear(self, x: jax.Array, name: str, p: Named) -> jax.Array:
        y = self.gathered_product(x, p[f"{name}.weight"])
        return y + p[f"{name}.bias"] if f"{name}.bias" in p else y

    def logits(self, x_BSD: jax.Array, p: Named) -> jax.Array:
        return self.gathered_product(x_BSD, p["embedding.weight"].T if self.contract.model.tied else p["head.weight"])

    def gathered_product(self, x: jax.Array, w: jax.Array) -> jax.Array:
        return _gathered_product(self, x, w) if self.tensor_size() > 1 else x @ w

    def ring_product(self, x: jax.Array, w: jax.Array) -> jax.Array:
        """The product of all tokens, chunk by chunk as they come by."""
        y = jnp.zeros(self.gathered_shape(x, w.shape[1]), x.dtype)
        for step in range(self.tensor_size()):
            x = self.hand_on(x) if step else x
            y = self.put(y, x @ w, self.chunk_at_hand(step))
        return y

    def ring_weight_gradient(self, x: jax.Array, w: jax.Array, g: jax.Array) -> jax.Array:
        """Tokens go round once more; what they add is summed in the master dtype."""
        g_w = jnp.zeros(w.shape, self.master)
        for step in range(self.tensor_size()):
            x = self.hand_on(x) if step else x
            part = self.take(g, self.chunk_at_hand(step), x)
            g_w = g_w + jnp.einsum("...i,...o->io", x, part, preferred_element_type=self.master)
        return g_w.astype(w.dtype)

    def ring_token_gradient(self, x: jax.Array, w: jax.Array, g: jax.Array) -> jax.Array:
        """The sum for every device's tokens goes round to its owner, and each device adds its part on the way."""
        gradient = jnp.zeros_like(x)
        for step in range(self.tensor_size()):
            gradient = self.hand_on(gradient) if step else gradient
            gradient = gradient + self.take(g, self.chunk_at_hand(step + 1), x) @ w.T
        return gradient

    def hand_on(self, x: jax.Array) -> jax.Array:
        """To the next device of the tensor axis, from the last to the first."""
        size = self.tensor_size()
        return jax.lax.ppermute(x, self.tensor_axis, [(rank, (rank + 1) % size) for rank in range(size)])

    def chunk_at_hand(self, step: int) -> jax.Array | int:
        """Whose tokens have arrived after so many steps."""
        return (self.tensor_rank() - step) % self.tensor_size()

    def gathered_shape(self, x: jax.Array, features: int) -> tuple[int, ...]:
        dim, size = self.token_dim, self.tensor_size()
        return (*x.shape[:dim], x.shape[dim] * size, *x.shape[dim + 1 : -1], features)

    def put(self, y: jax.Array, part: jax.Array, chunk: jax.Array | int) -> jax.Array:
        """y with a chunk of tokens written where it belongs."""
        start = chunk * part.shape[self.token_dim]
        return jax.lax.dynamic_update_slice_in_dim(y, part, start, self.token_dim)

    def take(self, g: jax.Array, chunk: jax.Array | int, like: jax.Array) -> jax.Array:
        """A chunk of as many tokens as `like` has."""
        width = like.shape[self.token_dim]
        return jax.lax.dynamic_slice_in_dim(g, chunk * width, width, self.token_dim)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gathered_product(ring: RingMatmul, x: jax.Array, w: jax.Array) -> jax.Array:
    return ring.ring_product(x, w)


def _forward(ring: RingMatmul, x: jax.Array, w: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return ring.ring_product(x, w), (x, w)


def _backward(ring: RingMatmul, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    return ring.ring_token_gradient(*saved, g), ring.ring_weight_gradient(*saved, g)


_gathered_product.defvjp(_forward, _backward)


class ColumnLinear(RingMatmul, sequence_parallel.ColumnLinear):
    sends: ClassVar[Budgets] = {"linear": RING_COLUMNS}


class RowLinear(RingMatmul, sequence_parallel.RowLinear):
    """It gathers nothing."""

    sends: ClassVar[Budgets] = {"linear": ROWS}


class FeedForward(RingMatmul, sequence_parallel.FeedForward):
    pass


class Attention(RingMatmul, sequence_parallel.Attention):
    pass


class Layer(RingMatmul, sequence_parallel.Layer):
    pass


class LanguageModel(RingMatmul, sequence_parallel.LanguageModel):
    pass
