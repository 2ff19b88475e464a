"""Zigzag ring attention that rotates its early and its late chunk by their places in the row."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from suites.sequence.jax_manual import zigzag
from suites.training.jax import layers


class Program(zigzag.Attention):
    def rotate(self, x_BSHE: jax.Array) -> jax.Array:
        if self.context_size() == 1:
            return super().rotate(x_BSHE)
        return layers.rotary(x_BSHE, self.chunk_positions(), self.contract.model.rotary_base)

    def chunk_positions(self) -> jax.Array:
        """Of the tokens of both chunks at hand."""
        width, size, rank = self.chunk_width(), self.context_size(), self.context_rank()
        early, late = rank, 2 * size - rank
        within = jnp.arange(width)
        return jnp.concatenate([early * width + within, late * width + within])
