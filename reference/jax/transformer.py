"""Decoder layer, decoder language model, and `build`, which makes the model of an architecture.

B: rows  S: tokens of a row  D: hidden  V: vocabulary
Every model maps a batch to a `Forward`: what each element computed, and sums over all valid elements.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from reference.architecture import Architecture, has_mixture
from reference.jax.attention import Attention
from reference.jax.contrastive import TwoTowers
from reference.jax.convolution import ConvolutionNetwork
from reference.jax.dropout import drop
from reference.jax.feedforward import FeedForward
from reference.jax.forward import Forward, judged, with_mixtures
from reference.jax.layers import Embedding, Linear, Tensors, norm, sinusoidal
from reference.jax.losses import quadratic
from reference.jax.moe import Mixture
from reference.jax.perceptron import Perceptron


class Dropout(nnx.Module):
    """Drops at a named site, and adds the mask of what is kept to `observed` under masks/<site>, as 0 and 1."""

    def __init__(self, rate: float, statistics: str) -> None:
        self.rate = rate
        self.statistics = statistics

    def __call__(self, x_BSD: jax.Array, site: str, batch: Tensors, observed: Tensors) -> jax.Array:
        if not self.rate:
            return x_BSD
        x_BSD, keep_BSD = drop(x_BSD, batch["seeds"], site, self.rate)
        observed[f"masks/{site}"] = keep_BSD.astype(self.statistics)
        return x_BSD


class DecoderLayer(nnx.Module):
    """x + attention(norm(x)), then x + feedforward(norm(x)), with dropout of what is added.

    The feed-forward block is dense or a mixture of experts, depending on the number of the layer.
    """

    def __init__(self, model: Architecture, statistics: str, number: int) -> None:
        self.attention_norm = norm(model, statistics)
        self.attention = Attention(model, statistics)
        self.feedforward_norm = norm(model, statistics)
        self.fed = "moe" if has_mixture(model, number) else "feedforward"
        setattr(self, self.fed, Mixture(model, statistics) if self.fed == "moe" else FeedForward(model))
        self.dropout = Dropout(model.dropout, statistics)

    def __call__(self, x_BSD: jax.Array, batch: Tensors, name: str, observed: Tensors, terms: Tensors) -> jax.Array:
        """Adds the two block outputs to `observed` under activations/<name>, and with dropout their masks.

        What a mixture adds besides, and to `terms`, `Mixture` says.
        """
        mixed_BSD = observed[f"activations/{name}.attention"] = self.attention(self.attention_norm(x_BSD), batch)
        x_BSD = x_BSD + self.dropout(mixed_BSD, f"{name}.attention", batch, observed)
        block, part, normed_BSD = f"{name}.{self.fed}", getattr(self, self.fed), self.feedforward_norm(x_BSD)
        fed_BSD = part(normed_BSD, batch, block, observed, terms) if self.fed == "moe" else part(normed_BSD)
        observed[f"activations/{block}"] = fed_BSD
        return x_BSD + self.dropout(fed_BSD, block, batch, observed)


class LanguageModel(nnx.Module):
    """Embedding, decoder layers, final norm, head (its own or the transposed embedding), cross-entropy."""

    def __init__(self, model: Architecture, statistics: str) -> None:
        self.model = model
        self.statistics = statistics
        self.embedding = Embedding(model.vocabulary, model.hidden)
        self.layers = nnx.List([DecoderLayer(model, statistics, i) for i in range(model.layers)])
        self.dropout = Dropout(model.dropout, statistics)
        self.final_norm = norm(model, statistics)
        self.head = None if model.tied else Linear(model.hidden, model.vocabulary, bias=False)

    def __call__(self, batch: Tensors) -> Forward:
        observed: Tensors = OrderedDict()
        terms: Tensors = {}
        x_BSD = observed["activations/embedding"] = self.embed(batch["tokens"])
        x_BSD = self.dropout(x_BSD, "embedding", batch, observed)
        for i, layer in enumerate(self.layers):
            x_BSD = observed[f"activations/layers.{i}"] = layer(x_BSD, batch, f"layers.{i}", observed, terms)
        x_BSD = observed["activations/final_norm"] = self.final_norm(x_BSD)
        observed["outputs/logits"] = x_BSD @ self.embedding.weight[...].T if self.head is None else self.head(x_BSD)
        forward = judged(observed, self.targets(batch), batch["mask"], self.model, self.statistics)
        return with_mixtures(forward, terms, self.model)

    def embed(self, tokens_BS: jax.Array) -> jax.Array:
        x_BSD = self.embedding(tokens_BS)
        if self.model.positions == "sinusoidal":
            x_BSD = x_BSD + jnp.asarray(sinusoidal(*x_BSD.shape[1:]), x_BSD.dtype)
        return x_BSD

    def targets(self, batch: Tensors) -> jax.Array:
        """The ids to predict; the last of a row has none and does not count when they are shifted."""
        return jnp.roll(batch["tokens"], -1, axis=1) if self.model.shift_labels else batch["targets"]


class Block(nnx.Module):
    """One part of a language model by itself, under the name of its kind, with a quadratic loss."""

    def __init__(self, model: Architecture, statistics: str) -> None:
        self.model = model
        self.statistics = statistics
        setattr(self, model.kind, _part(model, statistics))

    def __call__(self, batch: Tensors) -> Forward:
        observed: Tensors = OrderedDict()
        terms: Tensors = {}
        part, inputs = getattr(self, self.model.kind), batch["inputs"]
        if self.model.kind in ("layer", "moe"):
            y = part(inputs, batch, self.model.kind, observed, terms)
        elif self.model.kind == "attention":
            y = part(inputs, batch)
        else:
            y = part(inputs)
        loss, rows = quadratic(y, batch["targets"], batch["mask"], self.statistics), jnp.sum(batch["mask"])
        sums = {"loss": loss, "weight": rows * y.shape[-1], "tokens": rows}
        return with_mixtures(Forward(observed | {"outputs/y": y}, sums, {}), terms, self.model)


def _part(model: Architecture, statistics: str) -> nnx.Module:
    if model.kind == "linear":
        return Linear(model.hidden, model.outputs, model.bias)
    if model.kind == "attention":
        return Attention(model, statistics)
    if model.kind == "feedforward":
        return FeedForward(model)
    if model.kind == "moe":
        return Mixture(model, statistics)
    return DecoderLayer(model, statistics, 0)


Model = LanguageModel | Perceptron | ConvolutionNetwork | TwoTowers | Block

_WHOLE: dict[str, Callable[[Architecture, str], Model]] = {
    "language_model": LanguageModel,
    "perceptron": Perceptron,
    "convolution": ConvolutionNetwork,
    "contrastive": TwoTowers,
}


def build(model: Architecture, statistics: str = "float32") -> Model:
    """The model of an architecture, its parameters not yet loaded; norms, softmax and losses are in `statistics`."""
    return _WHOLE.get(model.kind, Block)(model, statistics)
