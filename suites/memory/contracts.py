"""What is claimed: a policy of memory changes no gradient, in a language model of three layers, in both frameworks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conformance.contract.contract import Contract, Precision, Recipe
from reference.architecture import Architecture
from suites.training.contracts import contract

SGD = Recipe(clip_norm=0.25, accumulation=3)  # no axis of the standing meshes has this size
ADAMW = Recipe(optimizer="adamw", learning_rate=2.0**-6, clip_norm=0.25)
MASTER = replace(ADAMW, precision=Precision(parameters="bfloat16", compute="bfloat16", master="float32"))

_MODEL = Architecture(
    kind="language_model",
    hidden=20,
    layers=3,
    num_heads=4,
    num_kv_heads=4,
    head_size=6,
    ffn=28,
    vocabulary=29,
    activation="swiglu",
    norm="rms",
    tied=True,
    label_smoothing=0.125,
    z_loss=0.0625,
)
_DROPOUT = replace(_MODEL, dropout=0.25)
SPILLED_FROM = 1000  # bytes: more than a norm or a loss takes, less than the hidden features of a slice


def _contract(
    name: str, summary: str, recipe: Recipe, model: Architecture = _MODEL, relations: tuple[str, ...] = (), **more: Any
) -> Contract:
    return contract(f"memory/{name}", summary, model, recipe, relations=relations, **more)


def _recomputed(name: str, what: str, recompute: str, **more: Any) -> Contract:
    summary = f"{what} again in the backward pass; every gradient stays"
    return _contract(name, summary, replace(SGD, recompute=recompute), relations=("recompute",), **more)


CONTRACTS = (
    _contract("kept", "every activation is kept for the backward pass, the state is taken over in place", ADAMW),
    _contract("kept_master", "the same with parameters in bfloat16 and float32 master weights", MASTER),
    _recomputed("layer", "whole layers are computed", "layer"),
    _recomputed("every_second", "every second layer is computed", "layer every 2"),
    _recomputed("attention", "scores and softmax are computed", "attention"),
    _recomputed("feedforward", "feed-forward blocks are computed", "feedforward"),
    _recomputed("local", "layers are computed, but for what was summed over the tensor axis,", "layer but tensor"),
    _recomputed("dropout", "whole layers with dropout are computed", "layer", model=_DROPOUT),
    _contract(
        "accumulation",
        "six slices, each with its layers computed again",
        replace(SGD, accumulation=6, recompute="layer"),
        relations=("accumulation",),
    ),
    _contract(
        "spilled",
        f"activations of {SPILLED_FROM} bytes and more wait in host memory for the backward pass",
        replace(SGD, spill=SPILLED_FROM),
    ),
    _contract(
        "spilled_attention",
        "the same, and the core of attention is computed again",
        replace(SGD, spill=SPILLED_FROM, recompute="attention"),
    ),
)  # fmt: skip
