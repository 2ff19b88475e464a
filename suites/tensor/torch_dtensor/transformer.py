"""The pre-norm decoder layer and the decoder language model, divided by DTensor.

B: rows  S: tokens  D: hidden  V: vocabulary
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ParallelStyle

from reference.architecture import Architecture
from suites.tensor.torch_dtensor.attention import AttentionModule, DividedAttention
from suites.tensor.torch_dtensor.division import Quadratic
from suites.tensor.torch_dtensor.feedforward import DividedFeedForward, FeedForwardModule
from suites.tensor.torch_dtensor.vocabulary import DividedVocabulary, VocabularyLoss, replicated
from suites.training import torch_layers as layers
from suites.training.torch_state import Named
from suites.training.traffic import Transfer


class Norm(nn.Module):
    """RMS or layer norm of the residual stream, replicated."""

    def __init__(self, model: Architecture, wide: torch.dtype) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(model.hidden))
        self.bias = nn.Parameter(torch.empty(model.hidden)) if model.norm == "layer" else None
        self.epsilon, self.wide = model.norm_epsilon, wide

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return layers.rms_norm(x, self.gain, self.epsilon, self.wide)
        return layers.layer_norm(x, self.gain, self.bias, self.epsilon, self.wide)


class DecoderLayer(nn.Module):
    def __init__(self, attention: AttentionModule) -> None:
        super().__init__()
        model, wide = attention.model, attention.wide
        self.attention_norm, self.attention = Norm(model, wide), attention
        self.feedforward_norm, self.feedforward = Norm(model, wide), FeedForwardModule(model)

    def forward(self, x_BSD: Tensor, padding_BS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(residual stream after the layer, output of attention, output of feed-forward)."""
        mixed_BSD = self.attention(self.attention_norm(x_BSD), padding_BS)
        fed_BSD = self.feedforward(self.feedforward_norm(x_BSD + mixed_BSD))
        return x_BSD + mixed_BSD + fed_BSD, mixed_BSD, fed_BSD


class DividedLayers(DividedAttention, DividedFeedForward):
    def layer_plan(self, path: str) -> Mapping[str, ParallelStyle]:
        return {**self.attention_plan(f"{path}.attention"), **self.feedforward_plan(f"{path}.feedforward")}

    def layer_transfers(self, number: int) -> Iterator[Transfer]:
        """Each of two blocks enters with a sum of gradients and leaves with a sum."""
        for phase in ("forward", "backward"):
            yield self.hidden_transfer(phase, calls=2 * number)


class OneLayer(nn.Module):
    def __init__(self, layer: DecoderLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, batch: Named) -> Named:
        y_BSD, mixed_BSD, fed_BSD = self.layer(batch["inputs"], batch["padding"])
        return {
            "activations/layer.attention": mixed_BSD,
            "activations/layer.feedforward": fed_BSD,
            "outputs/y": y_BSD,
        }


class Layer(Quadratic, DividedLayers):
    """One decoder layer by itself."""

    def build(self) -> nn.Module:
        return self.divided(OneLayer(DecoderLayer(self.attention_module())))

    def plan(self) -> Mapping[str, ParallelStyle]:
        return self.layer_plan("layer")

    def transfers(self) -> Iterator[Transfer]:
        yield from super().transfers()
        yield from self.layer_transfers(1)


class Decoder(nn.Module):
    """Embedding, decoder layers, final norm, head (tied or its own) and loss."""

    def __init__(self, model: Architecture, wide: torch.dtype, decoder_layers: list[DecoderLayer]) -> None:
        super().__init__()
        self.model = model
        self.embedding = nn.Embedding(model.vocabulary, model.hidden)
        self.layers = nn.ModuleList(decoder_layers)
        self.final_norm = Norm(model, wide)
        if not model.tied:
            self.head = nn.Linear(model.hidden, model.vocabulary, bias=False)
        self.loss = VocabularyLoss(model, wide)

    def forward(self, batch: Named) -> Named:
        observed: Named = {}
        x_BSD = observed["activations/embedding"] = self.embed(batch["tokens"])
        for i, layer in enumerate(self.layers):
            x_BSD, mixed_BSD, fed_BSD = layer(x_BSD, batch["padding"])
            observed[f"activations/layers.{i}.attention"] = mixed_BSD
            observed[f"activations/layers.{i}.feedforward"] = fed_BSD
            observed[f"activations/layers.{i}"] = x_BSD
        x_BSD = observed["activations/final_norm"] = self.final_norm(x_BSD)
        logits_BSV = self.logits(x_BSD)
        observed["outputs/logits"] = logits_BSV.to_local() if isinstance(logits_BSV, DTensor) else logits_BSV
        entropy_BS, z_BS = (part * batch["mask"] for part in self.loss(logits_BSV, batch["targets"]))
        observed["outputs/token_losses"] = entropy_BS + z_BS
        return observed | {"metrics/cross_entropy": entropy_BS.sum(), "metrics/z_loss": z_BS.sum()}

    def embed(self, tokens_BS: Tensor) -> Tensor:
        x_BSD = self.embedding(tokens_BS)
        if self.model.positions == "sinusoidal":
            x_BSD = x_BSD + layers.sinusoidal(torch.arange(x_BSD.shape[1]), x_BSD.shape[2]).to(x_BSD.dtype)
        return x_BSD

    def logits(self, x_BSD: Tensor) -> Tensor:
        if not self.model.tied:
            return self.head(x_BSD)
        return F.linear(replicated(x_BSD, self.embedding.weight), self.embedding.weight)


class LanguageModel(DividedVocabulary, DividedLayers):
    """The decoder language model; without layers, embedding, norm, head and loss alone."""

    def build(self) -> nn.Module:
        model = self.contract.model
        decoder_layers = [DecoderLayer(self.attention_module()) for _ in range(model.layers)]
        return self.divided(Decoder(model, self.master, decoder_layers))

    def plan(self) -> Mapping[str, ParallelStyle]:
        found = dict(self.vocabulary_plan())
        return found | dict(self.layer_plan("layers.*")) if self.contract.model.layers else found

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        observed = self.observe(p, batch)
        return observed["outputs/token_losses"].sum(), batch["mask"].sum(), observed

    def summed_scalars(self) -> int:
        return super().summed_scalars() + 2  # cross-entropy and z term

    def transfers(self) -> Iterator[Transfer]:
        yield from super().transfers()
        yield from self.layer_transfers(self.contract.model.layers)
