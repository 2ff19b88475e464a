"""Losses as sums over valid elements; the sum over a whole batch is divided once, at the end.

B: rows  S: tokens of a row  V: vocabulary, or classes (which have no S)
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def quadratic(y: jax.Array, targets: jax.Array, mask: jax.Array, statistics: str) -> jax.Array:
    """Sum over valid rows (all dims but the last) of |y - target|^2 / 2, in `statistics`."""
    error = y.astype(statistics) - targets
    return jnp.sum(mask * 0.5 * jnp.sum(error * error, axis=-1))


def cross_entropy(
    logits_BSV: jax.Array, targets_BS: jax.Array, smoothing: float, z_loss: float, statistics: str
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy with smoothed labels and the z term z_loss * logsumexp^2, shaped as targets and in `statistics`.

    The label distribution is 1 - smoothing on the target plus smoothing / V on every id (the target too).
    Sources: Szegedy et al., Rethinking the Inception Architecture, section 7; Chowdhery et al., PaLM, section 5.
    """
    logits_BSV = logits_BSV.astype(statistics)
    lse_BS = jax.nn.logsumexp(logits_BSV, axis=-1)
    target_BS = jnp.take_along_axis(logits_BSV, targets_BS[..., None], axis=-1)[..., 0]
    entropy_BS = lse_BS - (1 - smoothing) * target_BS - smoothing * jnp.mean(logits_BSV, axis=-1)
    return entropy_BS, z_loss * lse_BS * lse_BS
