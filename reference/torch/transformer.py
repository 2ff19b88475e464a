"""Decoder layer, decoder language model, and `build`, which makes the model of an architecture.

B: rows  S: tokens of a row  D: hidden  V: vocabulary
Every model maps a batch to a `Forward`: what each element computed, and sums over all valid elements.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from reference.architecture import Architecture
from reference.torch.attention import Attention
from reference.torch.convolution import ConvolutionNetwork
from reference.torch.dropout import drop
from reference.torch.feedforward import FeedForward
from reference.torch.forward import Forward, judged
from reference.torch.layers import Embedding, Linear, Tensors, dtype_of, norm, sinusoidal
from reference.torch.losses import quadratic
from reference.torch.perceptron import Perceptron


class Dropout(nn.Module):
    """Drops at a named site, and adds the mask of what is kept to `observed` under masks/<site>, as 0 and 1."""

    def __init__(self, rate: float, statistics: str) -> None:
        super().__init__()
        self.rate = rate
        self.statistics = dtype_of(statistics)

    def forward(self, x_BSD: Tensor, site: str, batch: Tensors, observed: Tensors) -> Tensor:
        if not self.rate:
            return x_BSD
        x_BSD, keep_BSD = drop(x_BSD, batch["seeds"], site, self.rate)
        observed[f"masks/{site}"] = keep_BSD.to(self.statistics)
        return x_BSD


class DecoderLayer(nn.Module):
    """x + attention(norm(x)), then x + feedforward(norm(x)), with dropout of what is added."""

    def __init__(self, model: Architecture, statistics: str) -> None:
        super().__init__()
        self.attention_norm = norm(model, statistics)
        self.attention = Attention(model, statistics)
        self.feedforward_norm = norm(model, statistics)
        self.feedforward = FeedForward(model)
        self.dropout = Dropout(model.dropout, statistics)

    def forward(self, x_BSD: Tensor, batch: Tensors, name: str, observed: Tensors) -> Tensor:
        """Adds the two block outputs to `observed` under activations/<name>, and with dropout their masks."""
        mixed_BSD = observed[f"activations/{name}.attention"] = self.attention(self.attention_norm(x_BSD), batch)
        x_BSD = x_BSD + self.dropout(mixed_BSD, f"{name}.attention", batch, observed)
        fed_BSD = observed[f"activations/{name}.feedforward"] = self.feedforward(self.feedforward_norm(x_BSD))
        return x_BSD + self.dropout(fed_BSD, f"{name}.feedforward", batch, observed)


class LanguageModel(nn.Module):
    """Embedding, decoder layers, final norm, head (its own or the transposed embedding), cross-entropy."""

    def __init__(self, model: Architecture, statistics: str) -> None:
        super().__init__()
        self.model = model
        self.statistics = dtype_of(statistics)
        self.embedding = Embedding(model.vocabulary, model.hidden)
        self.layers = nn.ModuleList([DecoderLayer(model, statistics) for _ in range(model.layers)])
        self.dropout = Dropout(model.dropout, statistics)
        self.final_norm = norm(model, statistics)
        self.head = None if model.tied else Linear(model.hidden, model.vocabulary, bias=False)

    def forward(self, batch: Tensors) -> Forward:
        observed: Tensors = {}
        x_BSD = observed["activations/embedding"] = self.embed(batch["tokens"])
        x_BSD = self.dropout(x_BSD, "embedding", batch, observed)
        for i, layer in enumerate(self.layers):
            x_BSD = observed[f"activations/layers.{i}"] = layer(x_BSD, batch, f"layers.{i}", observed)
        x_BSD = observed["activations/final_norm"] = self.final_norm(x_BSD)
        observed["outputs/logits"] = x_BSD @ self.embedding.weight.T if self.head is None else self.head(x_BSD)
        return judged(observed, self.targets(batch), batch["mask"], self.model, self.statistics)

    def embed(self, tokens_BS: Tensor) -> Tensor:
        x_BSD = self.embedding(tokens_BS)
        if self.model.positions == "sinusoidal":
            x_BSD = x_BSD + torch.as_tensor(sinusoidal(*x_BSD.shape[1:])).to(x_BSD)
        return x_BSD

    def targets(self, batch: Tensors) -> Tensor:
        """The ids to predict; the last of a row has none and does not count when they are shifted."""
        return batch["tokens"].roll(-1, dims=1) if self.model.shift_labels else batch["targets"]


class Block(nn.Module):
    """One part of a language model by itself, under the name of its kind, with a quadratic loss."""

    def __init__(self, model: Architecture, statistics: str) -> None:
        super().__init__()
        self.kind = model.kind
        self.statistics = dtype_of(statistics)
        setattr(self, model.kind, _part(model, statistics))

    def forward(self, batch: Tensors) -> Forward:
        observed: Tensors = {}
        part, inputs = getattr(self, self.kind), batch["inputs"]
        if self.kind == "layer":
            y = part(inputs, batch, "layer", observed)
        elif self.kind == "attention":
            y = part(inputs, batch)
        else:
            y = part(inputs)
        loss, rows = quadratic(y, batch["targets"], batch["mask"], self.statistics), torch.sum(batch["mask"])
        sums = {"loss": loss, "weight": rows * y.shape[-1], "tokens": rows}
        return Forward(observed | {"outputs/y": y}, sums, {})


def _part(model: Architecture, statistics: str) -> nn.Module:
    if model.kind == "linear":
        return Linear(model.hidden, model.outputs, model.bias)
    if model.kind == "attention":
        return Attention(model, statistics)
    if model.kind == "feedforward":
        return FeedForward(model)
    return DecoderLayer(model, statistics)


Model = LanguageModel | Perceptron | ConvolutionNetwork | Block

_WHOLE: dict[str, Callable[[Architecture, str], Model]] = {
    "language_model": LanguageModel,
    "perceptron": Perceptron,
    "convolution": ConvolutionNetwork,
}


def build(model: Architecture, statistics: str = "float32") -> Model:
    """The model of an architecture, its parameters not yet loaded; norms, softmax and losses are in `statistics`."""
    return _WHOLE.get(model.kind, Block)(model, statistics)
