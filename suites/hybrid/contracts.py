"""The contracts of hybrid parallelism: the expected step where several axes shard the same model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conformance.contract.contract import Contract, Recipe
from reference.architecture import Architecture
from suites.moe.batches import routed_batches
from suites.moe.semantics import declared
from suites.training.contracts import contract

ADAMW = Recipe(optimizer="adamw", clip_norm=0.75, learning_rate=0.03125)
STAGED = replace(ADAMW, microbatches=4)

_MIXED = Architecture(
    kind="language_model",
    hidden=20,
    layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_size=6,
    ffn=26,
    vocabulary=29,
    activation="swiglu",
    tied=True,
    label_smoothing=0.125,
    z_loss=0.0625,
    experts=8,
    moe_every=2,
    top_k=2,
    normalized_gates=True,
    balance_loss=0.25,
    router_z_loss=0.0625,
    shared_ffn=14,
    router_bias=True,
    bias_update_rate=0.0625,
    scores="sigmoid",
)
_DENSE = replace(_MIXED, experts=0, shared_ffn=0, router_bias=False, bias_update_rate=0.0, balance_loss=0.0)
_STAGED_MIXED = replace(_MIXED, layers=4, balance_scope="row")
_STAGED_DENSE = replace(_DENSE, layers=4)
_EMBEDDING_FIRST = replace(_DENSE, layers=1, tied=False)
_DEEP = replace(_DENSE, layers=24, hidden=16, num_kv_heads=4, head_size=4, ffn=32, activation="gelu", tied=False)
_SCANNED = replace(_STAGED_DENSE, tied=False, norm="rms", num_kv_heads=4, hidden=24, ffn=32, vocabulary=32)
_SCANNED_MIXED = replace(  # DeepSeek-V3 in kind: every expert has two places in a row, and some choices are dropped
    _SCANNED,
    experts=12,
    top_k=3,
    capacity_factor=1.0,
    normalized_gates=True,
    scores="sigmoid",
    shared_ffn=16,
    router_bias=True,
    bias_update_rate=0.0625,
    balance_loss=0.25,
    balance_scope="row",
    router_z_loss=0.0625,
    moe_every=1,
)
_LARGE = Architecture(
    kind="language_model",
    hidden=32,
    layers=4,
    num_heads=4,
    num_kv_heads=4,
    head_size=8,
    ffn=128,
    vocabulary=50,
    positions="sinusoidal",
    norm="layer",
)


def _contract(name: str, summary: str, model: Architecture, recipe: Recipe = ADAMW, **more: Any) -> Contract:
    plain = contract(f"hybrid/{name}", summary, model, recipe, **more)
    return declared(plain) if model.experts else plain


CONTRACTS = (
    _contract("mixture", "dense and mixed layers, tied embedding, router bias, AdamW, clipping", _MIXED),
    _contract("routed", "the same with routing that the batch prescribes", _MIXED, batches=routed_batches),
    _contract("saved", "saved on all axes at once, loaded, continued", _MIXED, relations=("checkpoint",)),
    _contract(
        "staged_mixture",
        "the same in four layers and four microbatches, balanced row by row",
        _STAGED_MIXED,
        STAGED,
        rows=48,
    ),
    _contract(
        "staged_context",
        "four dense layers and four microbatches, tied embedding",
        _STAGED_DENSE,
        STAGED,
        rows=48,
    ),
    _contract(
        "staged_saved",
        "mixtures in stages, saved with their router biases, loaded into other stages, continued",
        _STAGED_MIXED,
        STAGED,
        rows=48,
        relations=("initial values", "checkpoint"),
    ),
    _contract(
        "staged_context_saved",
        "dense stages with sharded tokens or state, saved, loaded into other stages, continued",
        _STAGED_DENSE,
        STAGED,
        rows=48,
        relations=("initial values", "checkpoint"),
    ),
    _contract(
        "embedding_first",
        "a vocabulary-sharded embedding, then attention and a sharded head",
        _EMBEDDING_FIRST,
        STAGED,
    ),
    _contract(
        "scanned",
        "four like layers, each computed again in the backward pass; tokens that divide over sequence and tensor",
        _SCANNED,
        replace(ADAMW, recompute="layer"),
        length=8,
    ),
    _contract(
        "scanned_slices",
        "the same layers, and a batch in three slices whose gradients add up; rows divide over data and fsdp",
        _SCANNED,
        replace(ADAMW, recompute="layer", accumulation=3),
        length=8,
    ),
    _contract(
        "scanned_stages",
        "the same layers in stages, and a batch in three microbatches",
        _SCANNED,
        replace(ADAMW, recompute="layer", microbatches=3),
        length=8,
    ),
    _contract(
        "scanned_mixture",
        "like layers with mixtures: shared experts, router biases, places counted row by row, some choices dropped",
        _SCANNED_MIXED,
        replace(ADAMW, recompute="layer"),
        length=8,
    ),
    _contract("deep", "24 layers in two stages", _DEEP, replace(STAGED, steps=2)),
    _contract(
        "large",
        "embedding, positions, layers and head; the core of attention computed again in the backward pass",
        _LARGE,
        replace(ADAMW, microbatches=3, recompute="attention"),
    ),
)
