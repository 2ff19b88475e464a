"""Ring attention with an early and a late chunk per device."""

import jax.numpy as jnp

from suites.sequence.jax_manual import zigzag
from suites.training.jax import layers


class Program(zigzag.Attention):
    def rotate(self, x_BSHE):
        length = x_BSHE.shape[1]
        positions_S = self.context_rank() * length + jnp.arange(length)
        return layers.rotary(x_BSHE, positions_S, self.contract.model.rotary_base)
