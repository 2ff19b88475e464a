"""What a forward pass gives, the cross-entropy of its logits, and what mixtures of experts add to a loss.

B: rows  S: tokens of a row  V: vocabulary, or classes
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from reference.architecture import Architecture, mixtures
from reference.jax.layers import Tensors
from reference.jax.losses import cross_entropy


class Forward(NamedTuple):
    """The forward pass of one model on one batch.

    observed  activations/... and outputs/..., rows along dim 0, in data-flow order (JAX would sort a plain dict)
    sums      `loss`, `weight` (what the loss is divided by), `tokens` (valid elements), the terms of the loss, and for
              every mixture load/<name> [experts], the choices of real tokens by expert
    slopes    gradients of the sum `loss` with respect to keys of the batch, rows along dim 0; who differentiates adds
              them, where a key is asked for
    """

    observed: Tensors
    sums: Tensors
    slopes: Tensors


def judged(observed: Tensors, targets: jax.Array, mask: jax.Array, model: Architecture, statistics: str) -> Forward:
    """The cross-entropy of outputs/logits, [B, S, V] or [B, V]; adds outputs/token_losses, shaped as the targets."""
    entropy, z = cross_entropy(observed["outputs/logits"], targets, model.label_smoothing, model.z_loss, statistics)
    losses, tokens = mask * (entropy + z), jnp.sum(mask)
    sums = {"loss": jnp.sum(losses), "weight": tokens, "tokens": tokens}
    terms = {"cross_entropy": jnp.sum(mask * entropy), "z_loss": jnp.sum(mask * z)}
    return Forward(observed | {"outputs/token_losses": losses}, sums | terms, {})


def with_mixtures(forward: Forward, terms: Tensors, model: Architecture) -> Forward:
    """Adds what the mixtures of a model found to the sums: their loads, and the losses by their coefficients.

    Law: a loss of mixtures is a mean over the layers that have one, and a mean already; it joins the sum `loss` times
    the weight of this slice. So the loss of a batch, whose sum is divided by the weight of all slices, has the average
    of the losses of its slices by their weights, and a slice of weight zero has no say.
    """
    names, sums = mixtures(model), dict(forward.sums)
    if not names:
        return forward
    for term, coefficient in (("balance_loss", model.balance_loss), ("router_z_loss", model.router_z_loss)):
        mean = sum(terms[f"{term}/{name}"] for name in names) / len(names)
        sums[term] = coefficient * mean * sums["weight"]
        sums["loss"] = sums["loss"] + sums[term]
    return forward._replace(sums=sums | {f"load/{name}": terms[f"load/{name}"] for name in names})
