"""The pre-norm decoder layer and the decoder language model, tensor-parallel.

B: rows  S: tokens  D: hidden  V: this rank's part of the vocabulary
"""

from __future__ import annotations

from torch import Tensor

from suites.tensor.torch_manual.attention import AttentionBlock
from suites.tensor.torch_manual.feedforward import FeedForwardBlock
from suites.tensor.torch_manual.vocabulary import VocabularyParallel
from suites.training.torch import layers
from suites.training.torch.losses import QuadraticLoss
from suites.training.torch.state import Named


class DecoderLayers(AttentionBlock, FeedForwardBlock):
    """Norms and the residual stream are replicated over the tensor axis."""

    def decoder_layer(self, x_BSD: Tensor, batch: Named, name: str, p: Named, observed: Named) -> Tensor:
        mixed_BSD = self.attention(self.norm(x_BSD, f"{name}.attention_norm", p), batch, f"{name}.attention", p)
        observed[f"activations/{name}.attention"] = mixed_BSD
        x_BSD = x_BSD + self.dropout(mixed_BSD, f"{name}.attention", batch, observed)
        block = f"{name}.{self.second_block(name)}"
        fed_BSD = self.fed(self.norm(x_BSD, f"{name}.feedforward_norm", p), batch, block, p, observed)
        observed[f"activations/{block}"] = fed_BSD
        return x_BSD + self.dropout(fed_BSD, block, batch, observed)

    def second_block(self, layer: str) -> str:
        """The name of the block that follows attention in a layer."""
        return "feedforward"

    def fed(self, x_BSD: Tensor, batch: Named, name: str, p: Named, observed: Named) -> Tensor:
        """Runs the block that follows attention, which has this name."""
        return self.feedforward(x_BSD, name, p)

    def norm(self, x: Tensor, name: str, p: Named) -> Tensor:
        epsilon = self.contract.model.norm_epsilon
        if self.contract.model.norm == "rms":
            return layers.rms_norm(x, p[f"{name}.scale"], epsilon, self.master)
        return layers.layer_norm(x, p[f"{name}.scale"], p[f"{name}.bias"], epsilon, self.master)

    @property
    def dense_blocks(self) -> int:
        """Feed-forward blocks behind attention."""
        return self.depth

    @property
    def depth(self) -> int:
        return 1 if self.contract.model.kind == "layer" else self.contract.model.layers


class Layer(QuadraticLoss, DecoderLayers):
    """One decoder layer by itself."""

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        observed: Named = {}
        y_BSD = self.recomputed(self.decoder_layer)(batch["inputs"], batch, "layer", p, observed)
        return *self.quadratic(y_BSD, batch), {**observed, "outputs/y": y_BSD}


class LanguageModel(VocabularyParallel, DecoderLayers):
    """Embedding, decoder layers, final norm, head (tied or its own) and loss; without layers, the ends alone."""

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        observed: Named = {}
        logits_BSV = self.logits(self.decode(batch, p, observed), p)
        observed["outputs/logits"] = logits_BSV
        return self.loss_sums(self.token_losses(logits_BSV, self.targets(batch)), batch["mask"], observed)

    def loss_sums(
        self, token_losses: tuple[Tensor, Tensor], mask_BS: Tensor, observed: Named
    ) -> tuple[Tensor, Tensor, Named]:
        """(sum of losses, valid tokens, observations), both terms of the loss among them."""
        entropy_BS, z_BS = (mask_BS * term_BS for term_BS in token_losses)
        losses_BS = observed["outputs/token_losses"] = entropy_BS + z_BS
        observed |= {"metrics/cross_entropy": entropy_BS.sum(), "metrics/z_loss": z_BS.sum()}
        return losses_BS.sum(), mask_BS.sum(), observed

    def decode(self, batch: Named, p: Named, observed: Named) -> Tensor:
        """Tokens -> the normed residual stream behind the last layer."""
        x_BSD = observed["activations/embedding"] = self.add_positions(self.embed(batch["tokens"], p))
        x_BSD = self.dropout(x_BSD, "embedding", batch, observed)
        layer = self.recomputed(self.decoder_layer)
        for i in range(self.contract.model.layers):
            x_BSD = layer(x_BSD, batch, f"layers.{i}", p, observed)
            observed[f"activations/layers.{i}"] = x_BSD
        x_BSD = observed["activations/final_norm"] = self.norm(x_BSD, "final_norm", p)
        return x_BSD
