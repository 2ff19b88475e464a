"""A decoder layer and a decoder language model by annotation; the residual stream is sharded by rows alone.

B: rows  S: tokens  D: hidden  V: vocabulary
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from suites.tensor.jax_automatic.attention import AttentionBlock
from suites.tensor.jax_automatic.feedforward import FeedForwardBlock
from suites.tensor.jax_automatic.vocabulary import VocabularyParallel
from suites.training.jax import layers
from suites.training.jax.losses import QuadraticLoss
from suites.training.jax.state import Named


class DecoderLayers(AttentionBlock, FeedForwardBlock):
    """x + attention(norm(x)), then x + feedforward(norm(x))."""

    def decoder_layer(self, x_BSD: jax.Array, batch: Named, name: str, p: Named, observed: Named) -> jax.Array:
        """Adds the output of both blocks to `observed`."""
        normed_BSD = self.norm(x_BSD, f"{name}.attention_norm", p)
        mixed_BSD = self.attention(normed_BSD, batch, f"{name}.attention", p)
        x_BSD = x_BSD + self.dropout(mixed_BSD, f"{name}.attention", batch, observed)
        block, normed_BSD = f"{name}.{self.second_block(name)}", self.norm(x_BSD, f"{name}.feedforward_norm", p)
        fed_BSD = self.fed(normed_BSD, batch, block, p, observed)
        observed |= {f"activations/{name}.attention": mixed_BSD, f"activations/{block}": fed_BSD}
        return x_BSD + self.dropout(fed_BSD, block, batch, observed)

    def second_block(self, layer: str) -> str:
        """The name of the block that follows attention in a layer."""
        return "feedforward"

    def fed(self, x_BSD: jax.Array, batch: Named, name: str, p: Named, observed: Named) -> jax.Array:
        """Runs the block that follows attention, which has this name."""
        return self.feedforward(x_BSD, name, p)

    def norm(self, x: jax.Array, name: str, p: Named) -> jax.Array:
        scale, epsilon = p[f"{name}.scale"], self.contract.model.norm_epsilon
        if self.contract.model.norm == "rms":
            return layers.rms_norm(x, scale, epsilon, self.master)
        return layers.layer_norm(x, scale, p[f"{name}.bias"], epsilon, self.master)


class Layer(QuadraticLoss, DecoderLayers):
    """One decoder layer by itself."""

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        observed: Named = {}
        inputs_BSD = batch["inputs"].astype(self.compute)
        layer = self.recomputed(self.decoder_layer)
        y_BSD = layer(inputs_BSD, batch, "layer", self.canonical(p), observed)
        return *self.quadratic(y_BSD, batch), observed | {"outputs/y": y_BSD}


class LanguageModel(DecoderLayers, VocabularyParallel):
    """Embedding, decoder layers (or none), final norm, head, cross-entropy."""

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        p, observed = self.canonical(p), {}
        x_BSD = observed["activations/embedding"] = self.add_positions(self.embed(batch["tokens"], p))
        x_BSD = self.dropout(x_BSD, "embedding", batch, observed)
        layer = self.recomputed(self.decoder_layer)
        for i in range(self.contract.model.layers):
            x_BSD = layer(x_BSD, batch, f"layers.{i}", p, observed)
            observed[f"activations/layers.{i}"] = x_BSD
        x_BSD = observed["activations/final_norm"] = self.norm(x_BSD, "final_norm", p)
        logits_BSV = observed["outputs/logits"] = self.logits(x_BSD, p)
        entropy_BS, z_BS = self.token_losses(logits_BSV, self.targets(batch))
        mask_BS = batch["mask"].astype(self.master)
        losses_BS = observed["outputs/token_losses"] = mask_BS * (entropy_BS + z_BS)
        observed["metrics/cross_entropy"] = jnp.sum(mask_BS * entropy_BS)
        observed["metrics/z_loss"] = jnp.sum(mask_BS * z_BS)
        return jnp.sum(losses_BS), jnp.sum(mask_BS), observed
