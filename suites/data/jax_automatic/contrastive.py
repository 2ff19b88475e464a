"""A loss that couples all rows of a batch, by annotation: the program of one device.

B: rows  D: hidden
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from suites.tensor.jax_automatic.feedforward import FeedForwardBlock
from suites.training.jax.state import Named


class ContrastiveTowers(FeedForwardBlock):
    """Two towers; of the similarities each device has those of its rows."""

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        p, x_B2D, mask_B = self.canonical(p), batch["inputs"].astype(self.compute), batch["mask"].astype(self.master)
        left_BD, right_BD = self.embedded(x_B2D[:, :1], "left", p), self.embedded(x_B2D[:, 1:], "right", p)
        inverse_temperature = jnp.exp(p["logit_scale.scale"].astype(self.master))
        seen_BB = (mask_B > 0)[None, :] | jnp.eye(len(mask_B), dtype=bool)
        of_left_B = _entropy(self.on_rows(inverse_temperature * (left_BD @ right_BD.T)), seen_BB)
        of_right_B = _entropy(self.on_rows(inverse_temperature * (right_BD @ left_BD.T)), seen_BB)
        losses_B = mask_B * (of_left_B + of_right_B) / 2
        observed = {"outputs/left": left_BD, "outputs/right": right_BD, "outputs/row_losses": losses_B}
        return jnp.sum(losses_B), jnp.sum(mask_B), observed

    def embedded(self, x_B1D: jax.Array, name: str, p: Named) -> jax.Array:
        """The normalized (unit-length) embedding of each row, in the master dtype."""
        y_BD = self.feedforward(x_B1D, name, p)[:, 0].astype(self.master)
        return y_BD * jax.lax.rsqrt(jnp.sum(y_BD * y_BD, axis=-1, keepdims=True) + self.contract.model.norm_epsilon)


def _entropy(logits_BB: jax.Array, seen_BB: jax.Array) -> jax.Array:
    """[B]: cross-entropy of each row of the logits against the diagonal entry."""
    return jax.nn.logsumexp(jnp.where(seen_BB, logits_BB, -jnp.inf), axis=-1) - jnp.diagonal(logits_BB)
