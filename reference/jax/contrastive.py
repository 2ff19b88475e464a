"""A batch-coupled loss: the loss of a row depends on all other rows of the batch.

B: rows  D: hidden
"""

from __future__ import annotations

from collections import OrderedDict

import jax
import jax.numpy as jnp
from flax import nnx

from reference.architecture import Architecture
from reference.jax.feedforward import FeedForward
from reference.jax.forward import Forward
from reference.jax.layers import Tensors, unset


class LogitScale(nnx.Module):
    """The logarithm of the factor (inverse temperature) that multiplies the similarities."""

    def __init__(self) -> None:
        self.scale = unset(1)


class TwoTowers(nnx.Module):
    """Outputs of two towers, normalized; the mean of the cross-entropies of exp(scale) left @ right' by row and column.

    Law: row b is to choose right b among the right halves of all valid rows, and right b the left half of row b. For
    other rows an invalid row is no negative. All of it but the towers is computed in `statistics`.
    Sources: van den Oord et al., Representation Learning with Contrastive Predictive Coding, section 2.3; Radford et
    al., Learning Transferable Visual Models From Natural Language Supervision, figure 3.
    """

    def __init__(self, model: Architecture, statistics: str) -> None:
        self.model = model
        self.statistics = statistics
        self.left = FeedForward(model)
        self.right = FeedForward(model)
        self.logit_scale = LogitScale()

    def __call__(self, batch: Tensors) -> Forward:
        left_BD = self.embedded(self.left, batch["inputs"][:, 0])
        right_BD = self.embedded(self.right, batch["inputs"][:, 1])
        mask_B, inverse_temperature = batch["mask"], jnp.exp(self.logit_scale.scale[...].astype(self.statistics))
        seen_BB = (mask_B > 0)[None, :] | jnp.eye(len(mask_B), dtype=bool)
        of_left_B = _entropy(inverse_temperature * (left_BD @ right_BD.T), seen_BB)
        of_right_B = _entropy(inverse_temperature * (right_BD @ left_BD.T), seen_BB)
        losses_B = mask_B * (of_left_B + of_right_B) / 2
        observed = OrderedDict({"outputs/left": left_BD, "outputs/right": right_BD, "outputs/row_losses": losses_B})
        rows = jnp.sum(mask_B)
        return Forward(observed, {"loss": jnp.sum(losses_B), "weight": rows, "tokens": rows}, {})

    def embedded(self, tower: FeedForward, x_BD: jax.Array) -> jax.Array:
        """The normalized (unit-length) embedding of each row."""
        y_BD = tower(x_BD).astype(self.statistics)
        return y_BD * jax.lax.rsqrt(jnp.sum(y_BD * y_BD, axis=-1, keepdims=True) + self.model.norm_epsilon)


def _entropy(logits_BB: jax.Array, seen_BB: jax.Array) -> jax.Array:
    """[B]: cross-entropy of each row of the logits against the diagonal entry."""
    value: jax.Array = jax.nn.logsumexp(jnp.where(seen_BB, logits_BB, -jnp.inf), axis=-1) - jnp.diagonal(logits_BB)
    return value
