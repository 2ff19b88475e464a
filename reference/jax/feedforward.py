"""The feed-forward block of a decoder layer.

B: rows  S: tokens of a row  D: hidden  F: ffn
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from reference.architecture import Architecture
from reference.jax.layers import Linear


class FeedForward(nnx.Module):
    """GELU (tanh form) between two linear maps, or SwiGLU: down(silu(gate) * up).

    An adapter adds to down(h) the low-rank product (h @ adapter_in) @ adapter_out.
    Sources: Hendrycks and Gimpel, Gaussian Error Linear Units; Shazeer, GLU Variants Improve Transformer; Hu et al.,
    LoRA: Low-Rank Adaptation of Large Language Models.
    """

    def __init__(self, model: Architecture) -> None:
        self.model = model
        if model.activation == "gelu":
            self.up = Linear(model.hidden, model.ffn, model.bias)
        elif model.fused_gate_up:
            self.gate_up = Linear(model.hidden, 2 * model.ffn, model.bias)
        else:
            self.gate = Linear(model.hidden, model.ffn, model.bias)
            self.up = Linear(model.hidden, model.ffn, model.bias)
        self.down = Linear(model.ffn, model.hidden, model.bias)
        if model.adapter:
            self.adapter_in = Linear(model.ffn, model.adapter, bias=False)
            self.adapter_out = Linear(model.adapter, model.hidden, bias=False)

    def __call__(self, x_BSD: jax.Array) -> jax.Array:
        h_BSF = self.activated(x_BSD)
        if not self.model.adapter:
            return self.down(h_BSF)
        return self.down(h_BSF) + self.adapter_out(self.adapter_in(h_BSF))

    def activated(self, x_BSD: jax.Array) -> jax.Array:
        """The input of the last linear map."""
        if self.model.activation == "gelu":
            return jax.nn.gelu(self.up(x_BSD), approximate=True)
        if self.model.fused_gate_up:
            gate_BSF, up_BSF = jnp.split(self.gate_up(x_BSD), 2, axis=-1)
        else:
            gate_BSF, up_BSF = self.gate(x_BSD), self.up(x_BSD)
        return jax.nn.silu(gate_BSF) * up_BSF
