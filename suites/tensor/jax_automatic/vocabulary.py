"""Embedding, head and cross-entropy by annotation: the vocabulary is sharded over the tensor axis.

B: rows  S: tokens  D: hidden  V: vocabulary
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from conformance.contract.placements import Placements, Shard
from suites.tensor.jax_automatic.linear import LinearLayers
from suites.training.jax.state import Named


class VocabularyParallel(LinearLayers):
    """Embedding, head and loss, as on one device."""

    def embed(self, tokens_BS: jax.Array, p: Named) -> jax.Array:
        return self.on_rows(p["embedding.weight"][tokens_BS])

    def logits(self, x_BSD: jax.Array, p: Named) -> jax.Array:
        weight_DV = p["embedding.weight"].T if self.contract.model.tied else p["head.weight"]
        return self.on_tensor(x_BSD @ weight_DV, 2)

    def token_losses(self, logits_BSV: jax.Array, targets_BS: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(cross-entropy with smoothed labels, z term) of each token, in the master dtype."""
        smoothing, wide_BSV = self.contract.model.label_smoothing, logits_BSV.astype(self.master)
        lse_BS = jax.nn.logsumexp(wide_BSV, axis=-1)
        target_BS = jnp.take_along_axis(wide_BSV, targets_BS[..., None], axis=-1)[..., 0]
        entropy_BS = lse_BS - (1 - smoothing) * target_BS
        if smoothing:
            entropy_BS = entropy_BS - smoothing * jnp.mean(wide_BSV, axis=-1)
        return entropy_BS, self.contract.model.z_loss * lse_BS * lse_BS

    def output_placements(self) -> dict[str, Placements]:
        return {"outputs/logits": {**self.row_placements(), self.tensor_axis: Shard(2)}}
