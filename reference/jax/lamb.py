"""LAMB: the step of AdamW, scaled by the norm of what it moves.

Source: You et al., Large Batch Optimization for Deep Learning: Training BERT in 76 minutes, algorithm 2, with the
identity for phi.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def update(
    p: jax.Array, g: jax.Array, slots: list[jax.Array], count: jax.Array, recipe: Any
) -> tuple[jax.Array, list[Any]]:
    """u = m' / (sqrt(v') + epsilon) + decay p; p <- p - rate |p| / |u| u, norms over all elements of the tensor.

    m' and v' are the moments of Adam corrected for their start at zero. Where a norm is zero the ratio is 1.
    """
    first, second = recipe.betas
    m = first * slots[0] + (1 - first) * g
    v = second * slots[1] + (1 - second) * g * g
    steps = count.astype(p.dtype)
    u = (m / (1 - first**steps)) / (jnp.sqrt(v / (1 - second**steps)) + recipe.epsilon) + recipe.weight_decay * p
    return p - recipe.learning_rate * trust_ratio(p, u) * u, [m, v]


def trust_ratio(p: jax.Array, u: jax.Array) -> jax.Array:
    """|p| / |u|."""
    wide, step = jnp.sqrt(jnp.sum(p * p)), jnp.sqrt(jnp.sum(u * u))
    return jnp.where((wide == 0) | (step == 0), 1, wide / jnp.where(step == 0, 1, step))
