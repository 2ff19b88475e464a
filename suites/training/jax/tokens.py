"""Positions, attention masks, targets and dropout masks of the tokens that a device holds.

B: rows  S: tokens at hand  T: key tokens  D: hidden
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from reference.jax.dropout import keep_mask
from suites.training.jax import layers
from suites.training.jax.state import JaxTraining, Named


class Tokens(JaxTraining):
    """Every device has all tokens of its rows; a suite that divides rows overrides where its own tokens stand.

    The residual stream may hold other tokens than the blocks between which it runs: one device's part of them.
    """

    def stream_positions(self) -> jax.Array | np.ndarray:
        """Canonical index in its row of every token of the residual stream."""
        return np.arange(self.row_length)

    def block_positions(self) -> jax.Array | np.ndarray:
        """Canonical index in its row of every token that a block computes with."""
        return np.arange(self.row_length)

    def visible(self, batch: Named) -> jax.Array:
        """[B, S, T]: which keys each query sees."""
        positions, documents_BS = self.block_positions(), self.documents(batch)
        documents = None if documents_BS is None else (documents_BS, documents_BS)
        return layers.visible(positions, positions, batch["attention_mask"], documents, self.contract.model.causal)

    def documents(self, batch: Named) -> jax.Array | None:
        """[B, S]: number of the document of every token of a block; None where a row is one document."""
        return jnp.cumsum(batch["document_starts"], axis=1) if self.contract.model.documents else None

    def targets(self, batch: Named) -> jax.Array:
        """[B, S]: the id that each token shall predict."""
        return jnp.roll(batch["tokens"], -1, axis=1) if self.contract.model.shift_labels else batch["targets"]

    def add_positions(self, x_BSD: jax.Array) -> jax.Array:
        """The residual stream with sinusoidal positions, where the model has them."""
        if self.contract.model.positions != "sinusoidal":
            return x_BSD
        return x_BSD + layers.sinusoidal(self.stream_positions(), x_BSD.shape[2]).astype(x_BSD.dtype)

    def dropout(self, x_BSD: jax.Array, site: str, batch: Named, observed: Named) -> jax.Array:
        """x where it is kept, enlarged so that its mean stays (Srivastava et al., 2014); the mask joins `observed`."""
        rate = self.contract.model.dropout
        if not rate:
            return x_BSD
        keep_BSD = self.keep_mask(site, batch["seeds"])
        observed[f"masks/{site}"] = keep_BSD.astype(self.master)
        return jnp.where(keep_BSD, x_BSD / (1 - rate), 0)

    def keep_mask(self, site: str, seeds_B: jax.Array) -> jax.Array:
        """Draws the mask of whole rows and takes the tokens at hand, so that the mask does not depend on the mesh."""
        model = self.contract.model
        return keep_mask(seeds_B, site, (self.row_length, model.hidden), model.dropout)[:, self.stream_positions()]
