"""The hyperparameters of every reference model, and the canonical shapes that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

Shapes = dict[str, tuple[int, ...]]

CLASSIFIERS = ("perceptron", "convolution")  # kinds that map a row of numbers to one class


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One model. `kind` says which part of a decoder language model it is, or which classifier.

    linear           y = x w + b
    attention        one self-attention block
    feedforward      one feed-forward block (GELU or SwiGLU)
    layer            one pre-norm decoder layer
    language_model   embedding, `layers` decoder layers (0 is allowed), final norm, head, cross-entropy
    perceptron       linear maps with GELU between them, cross-entropy
    convolution      3x3 convolutions with GELU, mean over the image, linear head, cross-entropy
    """

    kind: str
    hidden: int = 0
    outputs: int = 0  # linear: number of output features; convolution: of classes
    widths: tuple[int, ...] = ()  # perceptron: features of the inputs, then of the output of every layer
    skips: tuple[tuple[int, int], ...] = ()  # perceptron: (i, j): the output of layer i joins j before its activation
    image: tuple[int, int, int] = (0, 0, 0)  # convolution: height, width and channels of the inputs
    channels: tuple[int, ...] = ()  # convolution: output channels of every convolution
    strides: tuple[int, ...] = ()  # convolution: of every convolution, over height and width
    layers: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_size: int = 0
    ffn: int = 0
    vocabulary: int = 0
    activation: str = "gelu"  # or "swiglu"
    norm: str = "rms"  # or "layer"
    positions: str = "rotary"  # or "sinusoidal" (added to the embedding) or "none"
    fused_qkv: bool = False
    fused_gate_up: bool = False
    head_norm: bool = False  # RMS norm over each query and key head, one gain shared by all heads
    bias: bool = True
    tied: bool = False
    causal: bool = True  # attention: a query sees no later key
    documents: bool = False  # rows hold several documents, begun where `starts` of the batch is 1; none sees another
    shift_labels: bool = False  # language_model: the target of a token is the next token of its row, not a batch key
    dropout: float = 0.0  # rate, of what joins a residual stream: embedding and blocks; from the `seeds` of the batch
    adapter: int = 0  # feedforward: rank of a low-rank adapter beside the last linear map
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    rotary_base: float = 10000.0
    norm_epsilon: float = 1e-5


def shapes(model: Architecture) -> Shapes:
    """Canonical parameter name -> shape, in forward order.

    A weight is [in, out], an embedding [vocabulary, hidden], the weight of a convolution [3, 3, in, out].
    Raises ValueError for an unknown kind, and for a perceptron or a convolution that cannot be.
    """
    if model.kind == "linear":
        return _linear("linear", model.hidden, model.outputs, model.bias)
    if model.kind == "attention":
        return _attention("attention", model)
    if model.kind == "feedforward":
        return _feedforward("feedforward", model)
    if model.kind == "layer":
        return _layer("layer", model)
    if model.kind == "language_model":
        return _language_model(model)
    if model.kind == "perceptron":
        return _perceptron(model)
    if model.kind == "convolution":
        return _convolution(model)
    raise ValueError(
        f"Unknown kind of model '{model.kind}': linear, attention, feedforward, layer, language_model, perceptron or "
        "convolution."
    )


def _linear(name: str, inputs: int, outputs: int, bias: bool) -> Shapes:
    return {f"{name}.weight": (inputs, outputs)} | ({f"{name}.bias": (outputs,)} if bias else {})


def _norm(name: str, model: Architecture) -> Shapes:
    gain: Shapes = {f"{name}.gain": (model.hidden,)}
    return gain | {f"{name}.bias": (model.hidden,)} if model.norm == "layer" else gain


def _attention(name: str, model: Architecture) -> Shapes:
    """Fused QKV holds [query heads | key heads | value heads] along its output dim."""
    query, key = model.heads * model.head_size, model.kv_heads * model.head_size
    if model.fused_qkv:
        found = _linear(f"{name}.qkv", model.hidden, query + 2 * key, model.bias)
    else:
        found = _linear(f"{name}.query", model.hidden, query, model.bias)
        found |= _linear(f"{name}.key", model.hidden, key, model.bias)
        found |= _linear(f"{name}.value", model.hidden, key, model.bias)
    if model.head_norm:
        found |= {f"{name}.query_norm.gain": (model.head_size,), f"{name}.key_norm.gain": (model.head_size,)}
    return found | _linear(f"{name}.output", query, model.hidden, model.bias)


def _feedforward(name: str, model: Architecture) -> Shapes:
    """Fused gate-up holds [gate | up] along its output dim; an adapter is two matrices without a bias."""
    if model.activation == "gelu":
        found = _linear(f"{name}.up", model.hidden, model.ffn, model.bias)
    elif model.fused_gate_up:
        found = _linear(f"{name}.gate_up", model.hidden, 2 * model.ffn, model.bias)
    else:
        found = _linear(f"{name}.gate", model.hidden, model.ffn, model.bias)
        found |= _linear(f"{name}.up", model.hidden, model.ffn, model.bias)
    found |= _linear(f"{name}.down", model.ffn, model.hidden, model.bias)
    if model.adapter:
        found |= _linear(f"{name}.adapter_in", model.ffn, model.adapter, bias=False)
        found |= _linear(f"{name}.adapter_out", model.adapter, model.hidden, bias=False)
    return found


def _layer(name: str, model: Architecture) -> Shapes:
    return (
        _norm(f"{name}.attention_norm", model)
        | _attention(f"{name}.attention", model)
        | _norm(f"{name}.feedforward_norm", model)
        | _feedforward(f"{name}.feedforward", model)
    )


def _language_model(model: Architecture) -> Shapes:
    found: Shapes = {"embedding.weight": (model.vocabulary, model.hidden)}
    for i in range(model.layers):
        found |= _layer(f"layers.{i}", model)
    found |= _norm("final_norm", model)
    return found if model.tied else found | {"head.weight": (model.hidden, model.vocabulary)}


def _perceptron(model: Architecture) -> Shapes:
    if len(model.widths) < 2:
        raise ValueError(f"A perceptron needs two widths or more, of inputs and of every layer, not {model.widths}.")
    for skip in model.skips:
        _check_skip(skip, model.widths[1:])
    found: Shapes = {}
    for i, (inputs, outputs) in enumerate(pairwise(model.widths)):
        found |= _linear(f"layers.{i}", inputs, outputs, model.bias)
    return found


def _check_skip(skip: tuple[int, int], outputs: tuple[int, ...]) -> None:
    """Raise ValueError unless a skip leads from a layer to a later one of as many output features."""
    i, j = skip
    if not 0 <= i < j < len(outputs):
        raise ValueError(
            f"Skip {skip} must lead from a layer to a later one, and layers go from 0 to {len(outputs) - 1}."
        )
    if outputs[i] != outputs[j]:
        raise ValueError(
            f"Skip {skip} adds {outputs[i]} features of layer {i} to {outputs[j]} of layer {j}: make the widths equal."
        )


def _convolution(model: Architecture) -> Shapes:
    if not model.channels or len(model.channels) != len(model.strides):
        raise ValueError(
            f"Convolutions need output channels and a stride each, at least one of them, not channels {model.channels} "
            f"and strides {model.strides}."
        )
    found: Shapes = {}
    for i, (inputs, outputs) in enumerate(pairwise((model.image[2], *model.channels))):
        bias: Shapes = {f"convolutions.{i}.bias": (outputs,)} if model.bias else {}
        found |= {f"convolutions.{i}.weight": (3, 3, inputs, outputs)} | bias
    return found | _linear("head", model.channels[-1], model.outputs, model.bias)
