"""A decoder layer and a decoder language model, made of the sharded blocks; norms and residual stream are replicated.

B: rows  S: tokens  D: hidden  V: ids of the vocabulary on this device
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from suites.tensor.jax_manual.attention import AttentionBlock
from suites.tensor.jax_manual.feedforward import FeedForwardBlock
from suites.tensor.jax_manual.vocabulary import VocabularyParallel
from suites.training.jax import layers
from suites.training.jax.losses import QuadraticLoss
from suites.training.jax.state import Named


class DecoderLayers(AttentionBlock, FeedForwardBlock):
    """x + attention(norm(x)), then x + feedforward(norm(x))."""

    def decoder_layer(self, x_BSD: jax.Array, batch: Named, name: str, p: Named, observed: Named) -> jax.Array:
        """Adds the output of both blocks to `observed`."""
        normed_BSD = self.norm(x_BSD, f"{name}.attention_norm", p)
        mixed_BSD = self.attention(normed_BSD, batch, f"{name}.attention", p)
        observed[f"activations/{name}.attention"] = mixed_BSD
        x_BSD = x_BSD + self.dropout(mixed_BSD, f"{name}.attention", batch, observed)
        block = f"{name}.{self.second_block(name)}"
        fed_BSD = self.fed(self.norm(x_BSD, f"{name}.feedforward_norm", p), batch, block, p, observed)
        observed[f"activations/{block}"] = fed_BSD
        return x_BSD + self.dropout(fed_BSD, block, batch, observed)

    def second_block(self, layer: str) -> str:
        """The name of the block that follows attention in a layer."""
        return "feedforward"

    def fed(self, x_BSD: jax.Array, batch: Named, name: str, p: Named, observed: Named) -> jax.Array:
        """Runs the block that follows attention, which has this name."""
        return self.feedforward(x_BSD, name, p)

    def norm(self, x: jax.Array, name: str, p: Named) -> jax.Array:
        """Over the hidden dim, which every device holds whole: no collective."""
        scale, epsilon = p[f"{name}.scale"], self.contract.model.norm_epsilon
        if self.contract.model.norm == "rms":
            return layers.rms_norm(x, scale, epsilon, self.master)
        return layers.layer_norm(x, scale, p[f"{name}.bias"], epsilon, self.master)

    @property
    def dense_blocks(self) -> int:
        """Feed-forward blocks behind attention."""
        return self.depth

    @property
    def depth(self) -> int:
        return 1 if self.contract.model.kind == "layer" else self.contract.model.layers


class Layer(QuadraticLoss, DecoderLayers):
    """One decoder layer by itself."""

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        observed: Named = {}
        layer = self.recomputed(self.decoder_layer)
        y_BSD = layer(batch["inputs"].astype(self.compute), batch, "layer", p, observed)
        return *self.quadratic(y_BSD, batch), observed | {"outputs/y": y_BSD}


class LanguageModel(DecoderLayers, VocabularyParallel):
    """Embedding, decoder layers (or none), final norm, head, cross-entropy."""

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        observed: Named = {}
        x_BSD = observed["activations/embedding"] = self.add_positions(self.embed(batch["tokens"], p))
        x_BSD = self.dropout(x_BSD, "embedding", batch, observed)
        layer = self.recomputed(self.decoder_layer)
        for i in range(self.contract.model.layers):
            x_BSD = layer(x_BSD, batch, f"layers.{i}", p, observed)
            observed[f"activations/layers.{i}"] = x_BSD
        x_BSD = observed["activations/final_norm"] = self.norm(x_BSD, "final_norm", p)
        logits_BSV = observed["outputs/logits"] = self.logits(x_BSD, p)
        token_losses = self.token_losses(logits_BSV, self.targets(batch))
        return self.loss_sums(token_losses, batch["mask"].astype(self.master), observed)

    def loss_sums(
        self, token_losses: tuple[jax.Array, jax.Array], mask_BS: jax.Array, observed: Named
    ) -> tuple[jax.Array, jax.Array, Named]:
        """(sum of losses, valid tokens, observations), both terms of the loss among them."""
        entropy_BS, z_BS = token_losses
        losses_BS = observed["outputs/token_losses"] = mask_BS * (entropy_BS + z_BS)
        observed["metrics/cross_entropy"] = jnp.sum(mask_BS * entropy_BS)
        observed["metrics/z_loss"] = jnp.sum(mask_BS * z_BS)
        return jnp.sum(losses_BS), jnp.sum(mask_BS), observed
