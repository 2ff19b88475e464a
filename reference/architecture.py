"""The hyperparameters of every reference model, and the canonical shapes that follow from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

Shapes = dict[str, tuple[int, ...]]

CLASSIFIERS = ("perceptron", "convolution")  # kinds that map a row of numbers to one class


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One model. `kind` says which part of a decoder language model it is, or which classifier.

    linear           y = x w + b
    attention        one self-attention block
    feedforward      one feed-forward block (GELU or SwiGLU)
    moe              one mixture of experts, each a feed-forward block of its own
    layer            one pre-norm decoder layer
    language_model   embedding, `layers` decoder layers (0 is allowed), final norm, head, cross-entropy
    perceptron       linear maps with GELU between them, cross-entropy
    convolution      3x3 convolutions with GELU, mean over the image, linear head, cross-entropy
    contrastive      two feed-forward towers, one for each half of a row; each half finds its other among all rows

    With experts, the feed-forward block of decoder layer i is a mixture where i % moe_every == moe_every - 1; the layer
    of kind `layer` has number 0. `fused_gate_up` and `adapter` are of dense blocks only. What the fields of a mixture
    mean, `reference/{jax,torch}/routing.py` defines.
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
    num_heads: int = 0
    num_kv_heads: int = 0
    head_size: int = 0
    ffn: int = 0
    vocabulary: int = 0
    activation: str = "gelu"  # or "swiglu"
    norm: str = "rms"  # or "layer"
    positions: str = "rotary"  # or "sinusoidal" (added to the embedding) or "none"
    fused_qkv: bool = False
    fused_gate_up: bool = False
    head_norm: bool = False  # RMS norm over each query and key head, one scale shared by all heads
    bias: bool = True
    tied: bool = False
    causal: bool = True  # attention: a query sees no later key
    fused_gradient: bool = False  # attention is differentiated as fused kernels do it: equal, but rounded elsewhere
    documents: bool = False  # rows hold several documents (`document_starts` of the batch); none sees another
    shift_labels: bool = False  # language_model: the target of a token is the next token of its row, not a batch key
    dropout: float = 0.0  # rate, of what joins a residual stream: embedding and blocks; from the `seeds` of the batch
    adapter: int = 0  # feedforward: rank of a low-rank adapter beside the last linear map
    label_smoothing: float = 0.0
    z_loss: float = 0.0
    rotary_base: float = 10000.0
    norm_epsilon: float = 1e-5
    experts: int = 0  # of every mixture; 0: there is none, and every feed-forward block is dense
    moe_every: int = 1
    top_k: int = 1  # experts that a token chooses
    shared_ffn: int = 0  # width of one more expert that serves every token; 0: there is none
    scores: str = "softmax"  # of the router's logits over experts, or "sigmoid" of each
    normalized_gates: bool = False  # a gate is the score by the sum of the scores of the chosen, not the score itself
    gates_before: bool = False  # a gate multiplies the input of its expert, not its output
    capacity_factor: float = 0.0  # an expert has ceil(factor * tokens * top_k / experts) places; 0: no limit
    capacity_scope: str = "row"  # tokens and places are those of each row by itself, or of the whole "batch" (a slice)
    router_bias: bool = False  # a number per expert that joins the scores in the choice and nowhere else
    bias_update_rate: float = 0.0  # of the router bias, towards an even load, after every optimizer step
    balance_loss: float = 0.0
    balance_scope: str = "batch"  # statistics of the balance loss: of the slice that is differentiated, or of a "row"
    router_z_loss: float = 0.0


def shapes(model: Architecture) -> Shapes:
    """Canonical parameter name -> shape, in forward order.

    A weight is [in, out], an embedding [vocabulary, hidden], the weight of a convolution [3, 3, in, out].
    Experts are stacked along dim 0.
    Raises ValueError for an unknown kind, and for a mixture, a perceptron or a convolution that cannot be.
    """
    if model.experts or model.kind == "moe":
        _check_mixture(model)
    if model.kind not in _SHAPES:
        raise ValueError(
            f"Unknown kind of model '{model.kind}': linear, attention, feedforward, moe, layer, language_model, "
            "perceptron, convolution or contrastive."
        )
    return _SHAPES[model.kind](model)


def real_inputs(model: Architecture) -> tuple[str, ...]:
    """Keys of a batch that hold real numbers which enter the model: its loss has a gradient with respect to them.

    Token ids have none. The gradient of the embedding stands for it.
    """
    return () if model.kind == "language_model" else ("inputs",)


def has_mixture(model: Architecture, layer: int) -> bool:
    """Is the feed-forward block of the decoder layer of this number a mixture of experts?"""
    return model.experts > 0 and layer % model.moe_every == model.moe_every - 1


def mixtures(model: Architecture) -> tuple[str, ...]:
    """Names of all mixtures of a model, in forward order."""
    if model.kind == "moe":
        return ("moe",)
    if model.kind == "layer":
        return ("layer.moe",) if has_mixture(model, 0) else ()
    layers = model.layers if model.kind == "language_model" else 0
    return tuple(f"layers.{i}.moe" for i in range(layers) if has_mixture(model, i))


def places(model: Architecture, length: int) -> int | None:
    """How many of so many tokens an expert takes, those of a row or of a whole slice of a batch; None: all of them.

    A capacity per row is independent of the mesh; one per slice needs the counts of all devices with rows of the slice.
    Source: Fedus et al., Switch Transformers, equation 3.
    """
    if not model.capacity_factor:
        return None
    return math.ceil(model.capacity_factor * length * model.top_k / model.experts)


def is_router_bias(name: str) -> bool:
    """Whether this parameter is a router bias, which is updated by the load of the experts instead of gradients."""
    return name.endswith(".router.bias")


def is_weight(name: str) -> bool:
    """Is this parameter a matrix, an embedding or a kernel, alone or stacked, and neither a bias nor a scale?"""
    return name.endswith(".weight")


def _linear(name: str, inputs: int, outputs: int, bias: bool) -> Shapes:
    return {f"{name}.weight": (inputs, outputs)} | ({f"{name}.bias": (outputs,)} if bias else {})


def _norm(name: str, model: Architecture) -> Shapes:
    scale: Shapes = {f"{name}.scale": (model.hidden,)}
    return scale | {f"{name}.bias": (model.hidden,)} if model.norm == "layer" else scale


def _attention(name: str, model: Architecture) -> Shapes:
    """Fused QKV holds [query heads | key heads | value heads] along its output dim."""
    query, key = model.num_heads * model.head_size, model.num_kv_heads * model.head_size
    if model.fused_qkv:
        parameters = _linear(f"{name}.qkv", model.hidden, query + 2 * key, model.bias)
    else:
        parameters = _linear(f"{name}.query", model.hidden, query, model.bias)
        parameters |= _linear(f"{name}.key", model.hidden, key, model.bias)
        parameters |= _linear(f"{name}.value", model.hidden, key, model.bias)
    if model.head_norm:
        parameters |= {f"{name}.query_norm.scale": (model.head_size,), f"{name}.key_norm.scale": (model.head_size,)}
    return parameters | _linear(f"{name}.output", query, model.hidden, model.bias)


def _feedforward(name: str, model: Architecture) -> Shapes:
    """Fused gate-up holds [gate | up] along its output dim; an adapter is two matrices without a bias."""
    if model.activation == "gelu":
        parameters = _linear(f"{name}.up", model.hidden, model.ffn, model.bias)
    elif model.fused_gate_up:
        parameters = _linear(f"{name}.gate_up", model.hidden, 2 * model.ffn, model.bias)
    else:
        parameters = _linear(f"{name}.gate", model.hidden, model.ffn, model.bias)
        parameters |= _linear(f"{name}.up", model.hidden, model.ffn, model.bias)
    parameters |= _linear(f"{name}.down", model.ffn, model.hidden, model.bias)
    if model.adapter:
        parameters |= _linear(f"{name}.adapter_in", model.ffn, model.adapter, bias=False)
        parameters |= _linear(f"{name}.adapter_out", model.adapter, model.hidden, bias=False)
    return parameters


def dense(model: Architecture, ffn: int) -> Architecture:
    """The plain feed-forward block of a width, as a shared expert is one."""
    return replace(model, kind="feedforward", ffn=ffn, fused_gate_up=False, adapter=0)


def _mixture(name: str, model: Architecture) -> Shapes:
    """The router has no bias of its logits; an expert has the parameters of a dense block."""
    parameters: Shapes = {f"{name}.router.weight": (model.hidden, model.experts)}
    if model.router_bias:
        parameters |= {f"{name}.router.bias": (model.experts,)}
    expert = _feedforward(f"{name}.experts", dense(model, model.ffn))
    parameters |= {parameter: (model.experts, *shape) for parameter, shape in expert.items()}
    if model.shared_ffn:
        parameters |= _feedforward(f"{name}.shared", dense(model, model.shared_ffn))
    return parameters


def _check_mixture(model: Architecture) -> None:
    if not 1 <= model.top_k <= model.experts or model.moe_every < 1:
        raise ValueError(
            f"A mixture needs 1 <= top_k <= experts and moe_every >= 1, not top_k {model.top_k}, experts "
            f"{model.experts} and moe_every {model.moe_every}."
        )
    if model.scores not in ("softmax", "sigmoid") or model.balance_scope not in ("batch", "row"):
        raise ValueError(
            f"The scores of a mixture are softmax or sigmoid, not '{model.scores}', and the scope of its balance loss "
            f"is batch or row, not '{model.balance_scope}'."
        )
    if model.capacity_scope not in ("batch", "row"):
        raise ValueError(f"The scope of a capacity is batch or row, not '{model.capacity_scope}'.")
    if model.bias_update_rate and not model.router_bias:
        raise ValueError("A bias_update_rate moves the router bias, but there is none: set router_bias too.")


def _layer(name: str, model: Architecture, number: int) -> Shapes:
    parameters = _norm(f"{name}.attention_norm", model) | _attention(f"{name}.attention", model)
    parameters |= _norm(f"{name}.feedforward_norm", model)
    if has_mixture(model, number):
        return parameters | _mixture(f"{name}.moe", model)
    return parameters | _feedforward(f"{name}.feedforward", model)


def _language_model(model: Architecture) -> Shapes:
    parameters: Shapes = {"embedding.weight": (model.vocabulary, model.hidden)}
    for i in range(model.layers):
        parameters |= _layer(f"layers.{i}", model, i)
    parameters |= _norm("final_norm", model)
    return parameters if model.tied else parameters | {"head.weight": (model.hidden, model.vocabulary)}


def _perceptron(model: Architecture) -> Shapes:
    if len(model.widths) < 2:
        raise ValueError(f"A perceptron needs two widths or more, of inputs and of every layer, not {model.widths}.")
    for skip in model.skips:
        _check_skip(skip, model.widths[1:])
    parameters: Shapes = {}
    for i, (inputs, outputs) in enumerate(pairwise(model.widths)):
        parameters |= _linear(f"layers.{i}", inputs, outputs, model.bias)
    return parameters


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
    parameters: Shapes = {}
    for i, (inputs, outputs) in enumerate(pairwise((model.image[2], *model.channels))):
        bias: Shapes = {f"convolutions.{i}.bias": (outputs,)} if model.bias else {}
        parameters |= {f"convolutions.{i}.weight": (3, 3, inputs, outputs)} | bias
    return parameters | _linear("head", model.channels[-1], model.outputs, model.bias)


def _contrastive(model: Architecture) -> Shapes:
    return _feedforward("left", model) | _feedforward("right", model) | {"logit_scale.scale": (1,)}


_SHAPES: dict[str, Callable[[Architecture], Shapes]] = {
    "linear": lambda model: _linear("linear", model.hidden, model.outputs, model.bias),
    "attention": partial(_attention, "attention"),
    "feedforward": partial(_feedforward, "feedforward"),
    "moe": partial(_mixture, "moe"),
    "layer": partial(_layer, "layer", number=0),
    "language_model": _language_model,
    "perceptron": _perceptron,
    "convolution": _convolution,
    "contrastive": _contrastive,
}
