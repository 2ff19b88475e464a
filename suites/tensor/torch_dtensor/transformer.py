"""The pre-norm decoder layer and the decoder language model, sharded by DTensor.

B: rows  S: tokens  D: hidden  V: vocabulary
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ParallelStyle
from torch.func import functional_call

from reference.architecture import Architecture
from suites.tensor.torch_dtensor.attention import AttentionModule, ShardedAttention
from suites.tensor.torch_dtensor.feedforward import FeedForwardModule, ShardedFeedForward
from suites.tensor.torch_dtensor.sharding import Quadratic, TensorByDTensor
from suites.tensor.torch_dtensor.vocabulary import ShardedVocabulary, VocabularyLoss, gathered
from suites.training.torch import layers
from suites.training.torch.state import Named


class Norm(nn.Module):
    """RMS or layer norm of the residual stream, replicated."""

    def __init__(self, model: Architecture, wide: torch.dtype) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(model.hidden))
        self.bias = nn.Parameter(torch.empty(model.hidden)) if model.norm == "layer" else None
        self.epsilon, self.wide = model.norm_epsilon, wide

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is None:
            return layers.rms_norm(x, self.scale, self.epsilon, self.wide)
        return layers.layer_norm(x, self.scale, self.bias, self.epsilon, self.wide)


class DecoderLayer(nn.Module):
    def __init__(self, tokens: TensorByDTensor) -> None:
        super().__init__()
        model, wide = tokens.contract.model, tokens.master
        self.tokens = tokens
        self.attention_norm, self.attention = Norm(model, wide), AttentionModule(tokens)
        self.feedforward_norm, self.feedforward = Norm(model, wide), FeedForwardModule(model)

    def forward(self, x_BSD: Tensor, batch: Named, name: str, observed: Named) -> Tensor:
        """The residual stream after the layer; what both blocks add to it joins `observed`."""
        mixed_BSD = self.attention(self.attention_norm(x_BSD), batch)
        x_BSD = x_BSD + self.tokens.dropout(mixed_BSD, f"{name}.attention", batch, observed)
        fed_BSD = self.feedforward(self.feedforward_norm(x_BSD))
        observed |= {f"activations/{name}.attention": mixed_BSD, f"activations/{name}.feedforward": fed_BSD}
        return x_BSD + self.tokens.dropout(fed_BSD, f"{name}.feedforward", batch, observed)


def run_layer(
    layer: nn.Module, tokens: TensorByDTensor, x_BSD: Tensor, batch: Named, name: str, observed: Named
) -> Tensor:
    """A decoder layer, computed once more in the backward pass if the recipe says so.

    By then the module has given its parameters back, so that they are handed over as they are now.
    """

    def run(x: Tensor, batch: Named, name: str, p: Named, observed: Named) -> Tensor:
        return functional_call(layer, p, (x, batch, name, observed))

    if not tokens.recomputes:
        return layer(x_BSD, batch, name, observed)
    return tokens.recomputed(run)(x_BSD, batch, name, dict(layer.named_parameters()), observed)


class ShardedLayers(ShardedAttention, ShardedFeedForward):
    def layer_plan(self, path: str) -> Mapping[str, ParallelStyle]:
        norms = {**self.norm_plan(f"{path}.attention_norm"), **self.norm_plan(f"{path}.feedforward_norm")}
        return {**norms, **self.attention_plan(f"{path}.attention"), **self.feedforward_plan(f"{path}.feedforward")}

    def norm_plan(self, path: str) -> Mapping[str, ParallelStyle]:
        """A norm of a replicated residual stream is the same on every rank."""
        return {}


class OneLayer(nn.Module):
    def __init__(self, tokens: TensorByDTensor) -> None:
        super().__init__()
        self.tokens, self.layer = tokens, DecoderLayer(tokens)

    def forward(self, batch: Named) -> Named:
        observed: Named = {}
        y_BSD = run_layer(self.layer, self.tokens, batch["inputs"], batch, "layer", observed)
        return {**observed, "outputs/y": y_BSD}


class Layer(Quadratic, ShardedLayers):
    """One decoder layer by itself."""

    def build(self) -> nn.Module:
        return self.sharded(OneLayer(self))

    def plan(self) -> Mapping[str, ParallelStyle]:
        return self.layer_plan("layer")


class Decoder(nn.Module):
    """Embedding, decoder layers, final norm, head (tied or its own) and loss."""

    layer_class: ClassVar[type[nn.Module]] = DecoderLayer

    def __init__(self, tokens: TensorByDTensor) -> None:
        super().__init__()
        self.tokens, self.model = tokens, tokens.contract.model
        model, wide = self.model, tokens.master
        self.embedding = nn.Embedding(model.vocabulary, model.hidden)
        self.layers = nn.ModuleList([self.layer_class(tokens) for _ in range(model.layers)])
        self.final_norm = Norm(model, wide)
        if not model.tied:
            self.head = nn.Linear(model.hidden, model.vocabulary, bias=False)
        self.loss = VocabularyLoss(model, wide)

    def forward(self, batch: Named) -> Named:
        observed = self.tokens.new_observations()
        logits_BSV = self.logits(self.decode(batch, observed))
        observed["outputs/logits"] = logits_BSV.to_local() if isinstance(logits_BSV, DTensor) else logits_BSV
        losses = self.loss(logits_BSV, self.tokens.targets(batch))
        entropy_BS, z_BS = (part * batch["mask"] for part in losses)
        metrics = {"metrics/cross_entropy": entropy_BS.sum(), "metrics/z_loss": z_BS.sum()}
        return {**observed, "outputs/token_losses": entropy_BS + z_BS, **metrics}

    def decode(self, batch: Named, observed: Named) -> Tensor:
        """Tokens -> the normed residual stream behind the last layer."""
        x_BSD = self.tokens.add_positions(self.embedding(batch["tokens"]))
        observed["activations/embedding"] = x_BSD
        x_BSD = self.tokens.dropout(x_BSD, "embedding", batch, observed)
        for i, layer in enumerate(self.layers):
            x_BSD = self.run_layer(layer, x_BSD, batch, f"layers.{i}", observed)
            observed[f"activations/layers.{i}"] = x_BSD
        x_BSD = observed["activations/final_norm"] = self.final_norm(x_BSD)
        return x_BSD

    def run_layer(self, layer: nn.Module, x_BSD: Tensor, batch: Named, name: str, observed: Named) -> Tensor:
        return run_layer(layer, self.tokens, x_BSD, batch, name, observed)

    def logits(self, x_BSD: Tensor) -> Tensor:
        if not self.model.tied:
            return self.head(x_BSD)
        return F.linear(gathered(x_BSD, self.embedding.weight, self.tokens.stream), self.embedding.weight)


class LanguageModel(ShardedVocabulary, ShardedLayers):
    """The decoder language model; without layers, embedding, norm, head and loss alone."""

    def build(self) -> nn.Module:
        return self.sharded(Decoder(self))

    def plan(self) -> Mapping[str, ParallelStyle]:
        plan = {**self.vocabulary_plan(), **self.norm_plan("final_norm")}
        return plan | dict(self.layer_plan("layers.*")) if self.contract.model.layers else plan

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        observed = self.observe(p, batch)
        return observed["outputs/token_losses"].sum(), batch["mask"].sum(), observed
