"""The feed-forward block: its hidden features sharded over the tensor axis.

B: rows  S: tokens  D: hidden  F: hidden features of this device
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from suites.tensor.jax_manual.linear import LinearLayers
from suites.training.jax.losses import QuadraticLoss
from suites.training.jax.state import Named


class FeedForwardBlock(LinearLayers):
    """Column-parallel up (and gate), row-parallel down. A device's gate features meet its own up features."""

    def feedforward(self, x_BSD: jax.Array, name: str, p: Named) -> jax.Array:
        hidden_BSF = self.hidden_features(self.enter_block(x_BSD), name, p)
        y_BSD = self.row_linear(hidden_BSF, f"{name}.down", p)
        return y_BSD + self.adapted(hidden_BSF, name, p) if self.contract.model.adapter else y_BSD

    def hidden_features(self, x_BSD: jax.Array, name: str, p: Named) -> jax.Array:
        if self.contract.model.activation == "gelu":
            return jax.nn.gelu(self.column_linear(x_BSD, f"{name}.up", p), approximate=True)
        gate_BSF, up_BSF = self.gate_and_up(x_BSD, name, p)
        return jax.nn.silu(gate_BSF) * up_BSF

    def adapted(self, hidden_BSF: jax.Array, name: str, p: Named) -> jax.Array:
        """The low-rank product of an adapter (Hu et al., LoRA): its first matrix is row-parallel, as `down` is."""
        return self.row_linear(hidden_BSF, f"{name}.adapter_in", p) @ p[f"{name}.adapter_out.weight"]

    def gate_and_up(self, x_BSD: jax.Array, name: str, p: Named) -> tuple[jax.Array, jax.Array]:
        """A fused projection holds on each device that device's gate features, then its up features."""
        if self.contract.model.fused_gate_up:
            gate_BSF, up_BSF = jnp.split(self.column_linear(x_BSD, f"{name}.gate_up", p), 2, axis=-1)
            return gate_BSF, up_BSF
        return self.column_linear(x_BSD, f"{name}.gate", p), self.column_linear(x_BSD, f"{name}.up", p)


class FeedForward(QuadraticLoss, FeedForwardBlock):
    """One feed-forward block by itself."""

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        y_BSD = self.feedforward(batch["inputs"].astype(self.compute), "feedforward", p)
        return *self.quadratic(y_BSD, batch), {"outputs/y": y_BSD}
