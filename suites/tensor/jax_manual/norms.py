"""Norms over the hidden dim, which every device holds whole: their statistics need no collective."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from suites.training.jax_state import JaxTraining, Named


class Norms(JaxTraining):
    """RMS norm and layer norm, computed in the master dtype and returned in that of x."""

    def norm(self, x: jax.Array, name: str, p: Named) -> jax.Array:
        """The norm that the model asks for."""
        return self.layer_norm(x, name, p) if self.contract.model.norm == "layer" else self.rms_norm(x, name, p)

    def rms_norm(self, x: jax.Array, name: str, p: Named) -> jax.Array:
        """x / sqrt(mean(x^2) + epsilon) * gain over the last dim."""
        wide = x.astype(self.master)
        scale = jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.contract.model.norm_epsilon)
        return (wide * scale * p[f"{name}.gain"]).astype(x.dtype)

    def layer_norm(self, x: jax.Array, name: str, p: Named) -> jax.Array:
        """(x - mean) / sqrt(variance + epsilon) * gain + bias over the last dim."""
        wide = x.astype(self.master)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        scale = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + self.contract.model.norm_epsilon)
        return (centred * scale * p[f"{name}.gain"] + p[f"{name}.bias"]).astype(x.dtype)
