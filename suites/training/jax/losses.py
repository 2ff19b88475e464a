"""The quadratic loss of models that are not language models."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from suites.training.jax.state import JaxTraining, Named


class QuadraticLoss(JaxTraining):
    """Half the squared error of valid rows; every feature of a valid row is one element of the loss."""

    @property
    def weight_per_token(self) -> int:
        model = self.contract.model
        return model.outputs if model.kind == "linear" else model.hidden

    def quadratic(self, y: jax.Array, batch: Named) -> tuple[jax.Array, jax.Array]:
        """(sum of losses, number of elements) of the rows at hand, in the master dtype."""
        error = y.astype(self.master) - batch["targets"].astype(self.master)
        mask = batch["mask"].astype(self.master)
        return 0.5 * jnp.sum(mask * jnp.sum(error * error, axis=-1)), jnp.sum(mask) * self.weight_per_token
