"""Muon: SGD with an orthogonalized momentum for weight matrices.

I, O: input and output features
Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_OTHERS = ("embedding.weight", "head.weight")  # matrices that are not hidden layers


def is_hidden(name: str, p: jax.Array) -> bool:
    """Whether Muon orthogonalizes the update of this parameter. All others are updated by SGD."""
    return p.ndim in (2, 3) and name.endswith(".weight") and name not in _OTHERS  # stacked biases have two dims too


def newton_schulz(u_IO: jax.Array) -> jax.Array:
    """U f(S) V' for u = U S V', with all singular values that are not tiny brought near 1, in the dtype of u.

    Five steps of an odd polynomial of degree 5, on the wide form of the matrix, after division by its Frobenius norm.
    """
    a, b, c = _COEFFICIENTS
    tall = u_IO.shape[0] > u_IO.shape[1]
    x = (u_IO.T if tall else u_IO) / (jnp.linalg.norm(u_IO) + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    value: jax.Array = x.T if tall else x
    return value


def orthogonal(u: jax.Array) -> jax.Array:
    """`newton_schulz` of a matrix, or of each of a stack of experts [E, I, O] by itself."""
    return newton_schulz(u) if u.ndim == 2 else jnp.stack([newton_schulz(u_IO) for u_IO in u])


def update(
    p_IO: jax.Array, g_IO: jax.Array, slots: list[jax.Array], count: jax.Array, recipe: Any
) -> tuple[jax.Array, list[Any]]:
    """v <- momentum v + g; o = newton_schulz(g + momentum v); p <- p - rate (sqrt(max(1, O / I)) o + decay p)."""
    v = recipe.momentum * slots[0] + g_IO
    o_IO = orthogonal(g_IO + recipe.momentum * v)
    scale = math.sqrt(max(1.0, p_IO.shape[-1] / p_IO.shape[-2]))
    return p_IO - recipe.learning_rate * (scale * o_IO + recipe.weight_decay * p_IO), [v]
