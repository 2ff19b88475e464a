"""The contracts of tensor parallelism: one table row each, from a single linear layer to a trained language model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conformance.contract.contract import Arrays, Contract, Recipe
from conformance.contract.placements import Shard
from reference.architecture import Architecture, shapes
from reference.batches import text_batches
from reference.parameters import draw
from suites.training.contracts import contract

# Clipping thresholds lie near half the gradient norm at the first step, so that clipping always acts; the census check
# fails where it does not. SGD shows the absolute size of a gradient, AdamW hides it: both are in the table.
SGD = Recipe(optimizer="sgd", clip_norm=0.25, learning_rate=0.5)
SGD_ACCUMULATED = Recipe(optimizer="sgd", clip_norm=0.5, learning_rate=0.5, accumulation=3)  # no axis has this size
WIDE = Recipe(optimizer="sgd", clip_norm=0.5, learning_rate=2**-10)  # small steps: logits in the hundreds amplify them
ADAMW = Recipe(optimizer="adamw", clip_norm=0.5, learning_rate=0.03125)
UNCLIPPED = Recipe(optimizer="sgd", weight_decay=0.0)


def _contract(name: str, summary: str, model: Architecture, recipe: Recipe, **declared: Any) -> Contract:
    """No contract of this suite divides the sequence: what has two axes is tried beside an axis without use."""
    return contract(f"tensor/{name}", summary, model, recipe, **{"replicated_axes": ("sequence",), **declared})


_LINEAR = Architecture(kind="linear", hidden=24, outputs=48)
_DYADIC = Architecture(kind="linear", hidden=24, outputs=32)  # a power of two: the mean does not round
_UNEVEN_OUT = Architecture(kind="linear", hidden=24, outputs=13)
_UNEVEN_IN = Architecture(kind="linear", hidden=13, outputs=10)
_MHA = Architecture(kind="attention", hidden=20, num_heads=8, num_kv_heads=8, head_size=6, fused_qkv=True)
_GQA = replace(_MHA, num_kv_heads=2, fused_qkv=False, head_norm=True)
_MQA = replace(_MHA, num_kv_heads=1, fused_qkv=False, positions="none", bias=False)
_HEADS_3 = Architecture(kind="attention", hidden=20, num_heads=6, num_kv_heads=3, head_size=4, fused_qkv=True)
_GELU = Architecture(kind="feedforward", hidden=12, ffn=24)
_SWIGLU = Architecture(kind="feedforward", hidden=12, ffn=24, activation="swiglu", fused_gate_up=True)
_SWIGLU_UNEVEN = Architecture(kind="feedforward", hidden=12, ffn=13, activation="swiglu", fused_gate_up=True)
_LAYER = Architecture(
    kind="layer",
    hidden=20,
    num_heads=8,
    num_kv_heads=2,
    head_size=6,
    ffn=24,
    activation="swiglu",
    norm="rms",
    head_norm=True,
)
_COINCIDENT = Architecture(  # heads, length, head size and axis coincide: what is silent when two dims are mixed up
    kind="layer",
    hidden=16,
    num_heads=4,
    num_kv_heads=4,
    head_size=4,
    ffn=16,
    activation="gelu",
    norm="layer",
    fused_qkv=True,
)
_LARGE = Architecture(
    kind="layer",
    hidden=768,
    num_heads=12,
    num_kv_heads=12,
    head_size=64,
    ffn=3072,
    activation="gelu",
    norm="layer",
    fused_qkv=True,
)
_VOCABULARY = Architecture(
    kind="language_model", hidden=12, vocabulary=29, tied=True, positions="none", label_smoothing=0.125, z_loss=0.0625
)
_VOCABULARY_WIDE = Architecture(kind="language_model", hidden=12, vocabulary=29, tied=True, positions="none")
_VOCABULARY_UNTIED = Architecture(kind="language_model", hidden=12, vocabulary=32, positions="sinusoidal", norm="layer")
_TIED = Architecture(
    kind="language_model",
    hidden=20,
    layers=2,
    num_heads=8,
    num_kv_heads=2,
    head_size=6,
    ffn=24,
    vocabulary=29,
    activation="swiglu",
    norm="rms",
    head_norm=True,
    tied=True,
    label_smoothing=0.125,
    z_loss=0.0625,
)
_UNTIED = Architecture(
    kind="language_model",
    hidden=20,
    layers=2,
    num_heads=8,
    num_kv_heads=8,
    head_size=6,
    ffn=24,
    vocabulary=32,
    activation="gelu",
    norm="layer",
    positions="sinusoidal",
    fused_qkv=True,
)
_FUSED = replace(_TIED, layers=1, num_kv_heads=4, head_norm=False, fused_qkv=True, fused_gate_up=True)
_TEXT = Architecture(
    kind="language_model",
    hidden=24,
    layers=3,
    num_heads=8,
    num_kv_heads=4,
    head_size=6,
    ffn=40,
    vocabulary=257,
    activation="swiglu",
    norm="rms",
    tied=True,
    fused_gate_up=True,
)


def _wide_logits(seed: int) -> Arrays:
    """Logits beyond a thousand: their exponentials overflow unless the largest is subtracted."""
    drawn = draw(shapes(_VOCABULARY_WIDE), seed)
    return drawn | {"final_norm.scale": 512 * drawn["final_norm.scale"]}


_OUT, _IN = "column-parallel: weight and bias S(out)", "row-parallel: weight S(in), bias once after the reduction"
_LEFT_SHARDED = {"outputs/y": {"data": Shard(0), "tensor": Shard(1)}}
_ARRIVES_SHARDED = {"input_gradients/inputs": {"data": Shard(0), "tensor": Shard(1)}}  # as the inputs themselves

CONTRACTS = (
    _contract("column_linear", f"{_OUT}; the output is gathered", _LINEAR, SGD),
    _contract("column_linear_sharded", f"{_OUT}; the output stays sharded", _LINEAR, SGD, layouts=_LEFT_SHARDED),
    _contract("column_linear_uneven", f"{_OUT}; 13 output features, gathered", _UNEVEN_OUT, SGD),
    _contract("column_linear_exact", f"{_OUT}; dyadic inputs, no rounding anywhere", _DYADIC, UNCLIPPED, exact=True),
    _contract("row_linear", f"{_IN}; the input is split here", _LINEAR, SGD),
    _contract("row_linear_sharded", f"{_IN}; the input arrives sharded", _LINEAR, SGD, layouts=_ARRIVES_SHARDED),
    _contract("row_linear_uneven", f"{_IN}; 13 input features", _UNEVEN_IN, SGD),
    _contract("row_linear_exact", f"{_IN}; dyadic inputs, no rounding anywhere", _DYADIC, UNCLIPPED, exact=True),
    _contract("linear_2d", "weight sharded on both dims over the full 2-D mesh", _LINEAR, SGD),
    _contract(
        "linear_submesh",
        "weight sharded over the data axis only, replicated over the tensor axis",
        _LINEAR,
        SGD,
        replicated_axes=("sequence", "tensor"),
    ),
    _contract(
        "vocabulary",
        "vocabulary-parallel embedding, tied head and smoothed cross-entropy; 29 tokens",
        _VOCABULARY,
        SGD_ACCUMULATED,
    ),
    _contract(
        "vocabulary_untied",
        "vocabulary-parallel embedding, own head, cross-entropy; 32 tokens",
        _VOCABULARY_UNTIED,
        ADAMW,
    ),
    replace(
        _contract("vocabulary_wide", "cross-entropy of logits beyond a thousand, 29 tokens", _VOCABULARY_WIDE, WIDE),
        parameters=_wide_logits,
    ),
    _contract("attention_mha_fused", "multi-head attention, fused QKV, rotary positions", _MHA, SGD),
    _contract("attention_gqa_headnorm", "grouped-query attention, 2 key heads, norms shared by all heads", _GQA, SGD),
    _contract("attention_mqa", "multi-query attention: one key head, no bias", _MQA, SGD, relations=("second model",)),
    _contract(
        "attention_heads_3", "6 heads over 3 key heads, fused: for axes that 8 heads do not divide by", _HEADS_3, SGD
    ),
    _contract("mlp", "feed-forward with GELU: column-parallel, then row-parallel", _GELU, SGD),
    _contract("swiglu", "feed-forward with SwiGLU, gate and up fused", _SWIGLU, SGD),
    _contract(
        "swiglu_uneven",
        "feed-forward with SwiGLU, 13 hidden features: gate rows must meet their up rows",
        _SWIGLU_UNEVEN,
        SGD,
    ),
    _contract(
        "layer",
        "one pre-norm decoder layer",
        _LAYER,
        SGD_ACCUMULATED,
        relations=("mesh permutation", "recompute", "accumulation"),
    ),
    _contract(
        "layer_coincident", "a decoder layer whose heads, length and head size all are 4", _COINCIDENT, ADAMW, length=4
    ),
    _contract(
        "layer_large", "the decoder layer of the guides: hidden 768, 12 heads, ffn 3072", _LARGE, SGD, rows=4, length=16
    ),
    _contract(
        "language_model",
        "decoder language model, tied head, GQA, accumulation, clipping, every loss term on",
        _TIED,
        SGD_ACCUMULATED,
    ),
    _contract("language_model_untied", "decoder language model, own head, fused QKV, AdamW", _UNTIED, ADAMW),
    _contract(
        "language_model_saved",
        "fused projections are saved from one number of ranks, loaded on another, and training continues",
        _FUSED,
        replace(ADAMW, accumulation=3, steps=4),
        relations=("initial values", "checkpoint"),
    ),
    _contract(
        "language_model_text",
        "decoder language model on bytes of real source text, AdamW",
        _TEXT,
        ADAMW,
        batches=text_batches,
        rows=8,
        length=32,
    ),
)
