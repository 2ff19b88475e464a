"""The feed-forward block by annotation: its hidden features are sharded over the tensor axis.

B: rows  S: tokens  D: hidden  F: hidden features
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from suites.tensor.jax_automatic.linear import LinearLayers
from suites.training.jax.losses import QuadraticLoss
from suites.training.jax.state import Named


class FeedForwardBlock(LinearLayers):
    """GELU or SwiGLU of one device, with hidden features annotated."""

    def feedforward(self, x_BSD: jax.Array, name: str, p: Named) -> jax.Array:
        hidden_BSF = self.on_tensor(self.hidden_features(x_BSD, name, p), 2)
        return self.on_rows(self.linear(hidden_BSF, f"{name}.down", p))

    def hidden_features(self, x_BSD: jax.Array, name: str, p: Named) -> jax.Array:
        if self.contract.model.activation == "gelu":
            return jax.nn.gelu(self.linear(x_BSD, f"{name}.up", p), approximate=True)
        if self.contract.model.fused_gate_up:
            gate_BSF, up_BSF = jnp.split(self.linear(x_BSD, f"{name}.gate_up", p), 2, axis=-1)
            return jax.nn.silu(gate_BSF) * up_BSF
        return jax.nn.silu(self.linear(x_BSD, f"{name}.gate", p)) * self.linear(x_BSD, f"{name}.up", p)


class FeedForward(QuadraticLoss, FeedForwardBlock):
    """One feed-forward block by itself."""

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        y_BSD = self.feedforward(batch["inputs"].astype(self.compute), "feedforward", self.canonical(p))
        return *self.quadratic(y_BSD, batch), {"outputs/y": y_BSD}
