"""A loss that couples all rows of a batch, on devices that have a part of the rows each.

Law: every device compares its own rows with those of all devices. What was gathered for that sends its gradient back
where it came from: the gradient of a gather is a reduce-scatter, since each device's losses depend on the rows of all.
Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, section 2.4.

b: rows of this device  B: rows of all devices  D: hidden
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from suites.tensor.jax_manual.feedforward import FeedForwardBlock
from suites.training.jax.state import Named


class ContrastiveTowers(FeedForwardBlock):
    """Two towers and their loss."""

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        x_b2D, mask_b = batch["inputs"].astype(self.compute), batch["mask"].astype(self.master)
        left_bD, right_bD = self.embedded(x_b2D[:, :1], "left", p), self.embedded(x_b2D[:, 1:], "right", p)
        lefts_BD, rights_BD, mask_B = self.gather_rows(left_bD), self.gather_rows(right_bD), self.gather_rows(mask_b)
        place_b = self.first_row(len(mask_b)) + jnp.arange(len(mask_b))
        seen_bB = (mask_B > 0)[None, :] | (place_b[:, None] == jnp.arange(len(mask_B))[None, :])
        inverse_temperature = jnp.exp(p["logit_scale.scale"].astype(self.master))
        of_left_b = _entropy(inverse_temperature * (left_bD @ rights_BD.T), seen_bB, place_b)
        of_right_b = _entropy(inverse_temperature * (right_bD @ lefts_BD.T), seen_bB, place_b)
        losses_b = mask_b * (of_left_b + of_right_b) / 2
        observed = {"outputs/left": left_bD, "outputs/right": right_bD, "outputs/row_losses": losses_b}
        return jnp.sum(losses_b), jnp.sum(mask_b), observed

    def embedded(self, x_b1D: jax.Array, name: str, p: Named) -> jax.Array:
        """The normalized (unit-length) embedding of each row, in the master dtype."""
        y_bD = self.feedforward(x_b1D, name, p)[:, 0].astype(self.master)
        return y_bD * jax.lax.rsqrt(jnp.sum(y_bD * y_bD, axis=-1, keepdims=True) + self.contract.model.norm_epsilon)

    def gather_rows(self, x: jax.Array) -> jax.Array:
        """The rows of all devices in their order; the axis that cuts finest first."""
        for axis in reversed(self.row_axes):
            x = self.gather_over(axis, x)
        return x

    def gather_over(self, axis: str, x: jax.Array) -> jax.Array:
        """The rows of an axis; JAX's own gradient of a gather is the sum, scattered."""
        return jax.lax.all_gather(x, axis, axis=0, tiled=True) if self.mesh.size(axis) > 1 else x

    def first_row(self, rows: int) -> jax.Array | int:
        """Where the rows of this device begin among all, each device having so many."""
        place: jax.Array | int = 0
        for axis in self.row_axes:
            place = place * self.mesh.size(axis) + self.axis_rank(axis)
        return place * rows

    def compute_axes(self) -> tuple[str, ...]:
        """Similarities are sharded by rows alone."""
        return self.data_axes


def _entropy(logits_bB: jax.Array, seen_bB: jax.Array, place_b: jax.Array) -> jax.Array:
    """[b]: cross-entropy of each row of the logits against its own pair."""
    own_b = jnp.take_along_axis(logits_bB, place_b[:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(jnp.where(seen_bB, logits_bB, -jnp.inf), axis=-1) - own_b
