"""ZeRO 1 with Muon: the momentum is gathered, made orthogonal, and scaled by the shape of the matrix."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from suites.data.jax_manual import zero1


class Program(zero1.LanguageModel):
    def orthogonal(self, name: str, u: jax.Array) -> jax.Array:
        inputs, outputs = u.shape
        direction = self.own_block(name, zeropower(self.whole_matrix(name, u)))
        return math.sqrt(max(1.0, outputs / inputs)) * direction


def zeropower(g: jax.Array, steps: int = 5) -> jax.Array:
    """Newton-Schulz iteration on the wide form of the matrix."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.shape[0] > g.shape[1]
    x = g.T if tall else g
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
