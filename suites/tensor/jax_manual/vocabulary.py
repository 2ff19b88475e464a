"""Embedding, head and cross-entropy with the vocabulary divided over the tensor axis; no device ever holds all logits.

B: rows  S: tokens  D: hidden  V: ids of the vocabulary on this device, the last ones of the last devices being padding
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from conformance.placements import Placements
from suites.tensor.arrangement import Positions, positions
from suites.tensor.jax_manual.linear import LinearLayers
from suites.training.jax_state import Named


class VocabularyParallel(LinearLayers):
    """What deals with token ids. A tied head is the transposed embedding, so both are divided alike."""

    def local_ids(self, width: int) -> jax.Array:
        """The token ids of this device's rows of the embedding, or columns of the logits."""
        return self.tensor_rank() * width + jnp.arange(width)

    def embed(self, tokens_BS: jax.Array, p: Named) -> jax.Array:
        """Each token's row from the device that has it, zero from the others, summed."""
        weight_VD = p["embedding.weight"]
        local_BS = tokens_BS - self.tensor_rank() * weight_VD.shape[0]
        here_BS = (local_BS >= 0) & (local_BS < weight_VD.shape[0])
        rows_BSD = weight_VD[jnp.where(here_BS, local_BS, 0)]
        return self.leave_block(jnp.where(here_BS[..., None], rows_BSD, 0))

    def logits(self, x_BSD: jax.Array, p: Named) -> jax.Array:
        """This device's logits."""
        x_BSD = self.enter_block(x_BSD)
        return x_BSD @ p["embedding.weight"].T if self.contract.model.tied else x_BSD @ p["head.weight"]

    def token_losses(self, logits_BSV: jax.Array, targets_BS: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(cross-entropy with smoothed labels, z term) of each token, in the master dtype, the same on every device.

        Sources: Szegedy et al., Rethinking the Inception Architecture, section 7; Chowdhery et al., PaLM, section 5.
        """
        model, wide_BSV = self.contract.model, logits_BSV.astype(self.master)
        lse_BS = self.log_sum_exp(wide_BSV)
        entropy_BS = lse_BS - (1 - model.label_smoothing) * self.target_logit(wide_BSV, targets_BS)
        if model.label_smoothing:
            entropy_BS = entropy_BS - model.label_smoothing * self.mean_logit(wide_BSV)
        return entropy_BS, model.z_loss * lse_BS * lse_BS

    def real(self, logits_BSV: jax.Array, padding: float) -> jax.Array:
        """The logits with `padding` in place of ids that the vocabulary does not have."""
        if self.contract.model.vocabulary % self.tensor_size() == 0:
            return logits_BSV
        return jnp.where(self.local_ids(logits_BSV.shape[-1]) < self.contract.model.vocabulary, logits_BSV, padding)

    def log_sum_exp(self, logits_BSV: jax.Array) -> jax.Array:
        """Over the whole vocabulary, relative to its largest logit so that nothing overflows."""
        logits_BSV = self.real(logits_BSV, -jnp.inf)
        largest_BS = self.max_over_tensor(jnp.max(logits_BSV, axis=-1))
        sum_BS = self.reduce_from_tensor(jnp.sum(jnp.exp(logits_BSV - largest_BS[..., None]), axis=-1))
        return jnp.log(sum_BS) + largest_BS

    def target_logit(self, logits_BSV: jax.Array, targets_BS: jax.Array) -> jax.Array:
        """The logit of the target, from the device that has it."""
        is_target_BSV = targets_BS[..., None] == self.local_ids(logits_BSV.shape[-1])
        return self.reduce_from_tensor(jnp.sum(jnp.where(is_target_BSV, logits_BSV, 0), axis=-1))

    def mean_logit(self, logits_BSV: jax.Array) -> jax.Array:
        """Over the whole vocabulary, without padding."""
        total_BS = self.reduce_from_tensor(jnp.sum(self.real(logits_BSV, 0), axis=-1))
        return total_BS / self.contract.model.vocabulary

    def output_placements(self) -> dict[str, Placements]:
        return {"outputs/logits": {**self.row_placements(), self.tensor_axis: "S(2)"}}

    def positions(self, name: str) -> Positions:
        vocabulary = self.contract.model.vocabulary
        if name == "outputs/logits" and vocabulary % self.tensor_size():
            return {2: positions([(vocabulary, 1)], self.tensor_size())}
        return super().positions(name)
