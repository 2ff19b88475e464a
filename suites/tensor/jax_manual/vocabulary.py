"""Embedding, head and cross-entropy with the vocabulary sharded over the tensor axis; no device ever holds all logits.

B: rows  S: tokens  D: hidden  V: ids of the vocabulary on this device, the last ones of the last devices being padding
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from conformance.contract.placements import Placements, Shard
from suites.tensor.jax_manual.linear import LinearLayers
from suites.tensor.layout import positions
from suites.training.jax.state import Named
from suites.training.state_layout import Positions


class VocabularyParallel(LinearLayers):
    """Embedding, head and loss. A tied head is the transposed embedding, so both are sharded alike."""

    def embed(self, tokens_BS: jax.Array, p: Named) -> jax.Array:
        return self.leave_block(self.look_up(tokens_BS, p))

    def look_up(self, tokens_BS: jax.Array, p: Named) -> jax.Array:
        """The rows of the ids that this device stores, zero for the others."""
        local_BS, stored_BS = self.local_ids(tokens_BS)
        return p["embedding.weight"][local_BS] * stored_BS[..., None]

    def local_ids(self, ids_BS: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(id within this device's part of the vocabulary, or 0; is it stored here)."""
        local_BS = ids_BS - self.tensor_rank() * self.local_vocabulary
        stored_BS = (local_BS >= 0) & (local_BS < self.local_vocabulary)
        return jnp.where(stored_BS, local_BS, 0), stored_BS

    @property
    def local_vocabulary(self) -> int:
        return -(-self.contract.model.vocabulary // self.tensor_size())

    def real_ids(self) -> jax.Array:
        """[V]: False for the padding ids of the last devices."""
        ids_V = jnp.arange(self.local_vocabulary) + self.tensor_rank() * self.local_vocabulary
        return ids_V < self.contract.model.vocabulary

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
        return jnp.where(self.real_ids(), logits_BSV, padding)

    def log_sum_exp(self, logits_BSV: jax.Array) -> jax.Array:
        """Over the whole vocabulary, relative to its largest logit so that nothing overflows."""
        logits_BSV = self.real(logits_BSV, -jnp.inf)
        largest_BS = self.largest_logit(logits_BSV)
        return jnp.log(self.denominator(jnp.exp(logits_BSV - largest_BS[..., None]))) + largest_BS

    def largest_logit(self, logits_BSV: jax.Array) -> jax.Array:
        return self.max_over_tensor(jnp.max(logits_BSV, axis=-1))

    def denominator(self, exponentials_BSV: jax.Array) -> jax.Array:
        """That of the softmax: the sum over the whole vocabulary."""
        return self.reduce_from_tensor(exponentials_BSV.sum(-1))

    def target_logit(self, logits_BSV: jax.Array, targets_BS: jax.Array) -> jax.Array:
        """The logit of the target, from the device that has it."""
        local_BS, stored_BS = self.local_ids(targets_BS)
        is_target_BSV = (local_BS[..., None] == jnp.arange(self.local_vocabulary)) & stored_BS[..., None]
        return self.reduce_from_tensor(jnp.sum(jnp.where(is_target_BSV, logits_BSV, 0), axis=-1))

    def mean_logit(self, logits_BSV: jax.Array) -> jax.Array:
        """Over the whole vocabulary, without padding."""
        return self.reduce_from_tensor(self.real_sum(logits_BSV)) / self.contract.model.vocabulary

    def real_sum(self, logits_BSV: jax.Array) -> jax.Array:
        """Over this device's part of the vocabulary."""
        return jnp.sum(self.real(logits_BSV, 0), axis=-1)

    def output_placements(self) -> dict[str, Placements]:
        return {"outputs/logits": {**self.row_placements(), self.tensor_axis: Shard(2)}}

    def positions(self, name: str) -> Positions:
        vocabulary = self.contract.model.vocabulary
        if name == "outputs/logits" and vocabulary % self.tensor_size():
            return {2: positions([(vocabulary, 1)], self.tensor_size())}
        return super().positions(name)
