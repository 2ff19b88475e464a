"""The contracts of mixtures of experts: the expected step for every way to route, gate, drop and balance.

All of it is declared by the model of the contract. Two contracts that differ there are both right.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conformance.contract.contract import Contract, Precision, Recipe
from reference.architecture import Architecture
from reference.opposed import opposed_rows
from suites.moe.batches import routed_batches
from suites.moe.semantics import declared
from suites.training.contracts import contract

# Clipping thresholds lie near half the gradient norm of the first step, so that clipping always acts.
SGD = Recipe(optimizer="sgd", clip_norm=0.75, learning_rate=0.5)
ADAMW = Recipe(optimizer="adamw", clip_norm=0.75, learning_rate=0.03125)

_SWITCH = Architecture(  # capacity by token order; unnormalized gates; auxiliary losses large enough to be seen
    kind="moe",
    hidden=20,
    ffn=26,
    experts=8,
    top_k=1,
    capacity_factor=1.0,
    balance_loss=0.5,
    router_z_loss=0.125,
)
_GSHARD = replace(_SWITCH, top_k=2, capacity_factor=1.25, normalized_gates=True, activation="swiglu")
_OF_BATCH = replace(_GSHARD, capacity_factor=1.0, capacity_scope="batch")
_DROPLESS = replace(_GSHARD, capacity_factor=0.0, bias=False)
_BALANCED = replace(  # after DeepSeek-V3: a router bias, updated by the load alone
    _DROPLESS,
    scores="sigmoid",
    top_k=3,
    shared_ffn=14,
    router_bias=True,
    bias_update_rate=0.0625,
    balance_scope="row",
    bias=True,
)
_BEFORE = replace(_SWITCH, scores="sigmoid", gates_before=True, capacity_factor=0.0, shared_ffn=22, top_k=2)
_UNEVEN = replace(_GSHARD, experts=6)
_MODEL = Architecture(
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
)
_EVERY_LAYER = replace(
    _MODEL,
    moe_every=1,
    shared_ffn=14,
    router_bias=True,
    bias_update_rate=0.0625,
    scores="sigmoid",
    norm="layer",
    tied=False,
    dropout=0.25,
)
_OPPOSED = replace(_MODEL, moe_every=1, shared_ffn=14, balance_loss=0.0, router_z_loss=0.0, tied=False, bias=False)
_WIDE = Architecture(
    kind="moe", hidden=1024, ffn=2048, experts=8, top_k=2, capacity_factor=1.25, normalized_gates=True, bias=False
)


def _contract(name: str, summary: str, model: Architecture = _MODEL, recipe: Recipe = SGD, **more: Any) -> Contract:
    return declared(contract(f"moe/{name}", summary, model, recipe, **more))


def _gates(scores: str, before: bool, normalized: bool) -> Contract:
    """Gates of one kind, and the place where they act."""
    where, what = "before" if before else "after", "normalized" if normalized else "raw"
    model = replace(_DROPLESS, scores=scores, gates_before=before, normalized_gates=normalized, bias=True)
    summary = f"{what} {scores} gates multiply {where} the experts"
    return _contract(f"gates_{scores}_{what}_{where}", summary, model)


CONTRACTS = (
    _contract(
        "switch",
        "one expert per token with a capacity; later tokens of a row are dropped",
        _SWITCH,
        replace(SGD, clip_norm=0.25),
    ),
    _contract("gshard", "two experts per token with a capacity: first choices come before second ones", _GSHARD),
    _contract(
        "capacity_of_batch",
        "capacity is counted over all rows of the batch in their order, across devices",
        _OF_BATCH,
    ),
    _contract("dropless", "no capacity: every choice is admitted", _DROPLESS),
    _contract("balanced", "a shared expert; a router bias that the load moves; losses row by row", _BALANCED),
    _contract("uneven", "six experts, also on axes that do not divide six", _UNEVEN),
    *(_gates("softmax", before, normalized) for before in (False, True) for normalized in (False, True)),
    _contract(
        "gates_sigmoid_raw_before", "unnormalized sigmoid gates before the experts, and a shared expert", _BEFORE
    ),
    _contract(
        "routed",
        "the routing is prescribed: experts overloaded, idle, with one token",
        _DROPLESS,
        batches=routed_batches,
    ),
    _contract(
        "layer",
        "a decoder layer, computed again in the backward pass",
        replace(_MODEL, kind="layer", moe_every=1),
        replace(SGD, recompute="layer"),
        relations=("recompute",),
    ),
    _contract("language_model", "a mixture in every other layer, tied embedding, AdamW, clipping", recipe=ADAMW),
    _contract(
        "every_layer",
        "two mixtures, shared experts, router bias, dropout",
        _EVERY_LAYER,
        replace(SGD, recompute="layer"),
    ),
    _contract(
        "accumulation",
        "balance is that of each slice, the loss that of the whole batch",
        recipe=replace(SGD, accumulation=3),
        rows=72,
    ),
    _contract(
        "accumulation_uneven",
        "slices of 3, 2 and 1 shares; router bias by the load of all of them",
        _BALANCED,
        replace(SGD, accumulation=3, shares=(3, 2, 1)),
        rows=48,
    ),
    _contract(
        "routed_model",
        "a language model whose routing is prescribed, products in the dtype of the case",
        _EVERY_LAYER,
        ADAMW,
        batches=routed_batches,
    ),
    _contract(
        "routed_policy",
        "bfloat16 products and parameters, master weights in float32; routing prescribed",
        replace(_EVERY_LAYER, dropout=0.0),
        replace(ADAMW, precision=Precision(parameters="bfloat16", compute="bfloat16", master="float32")),
        batches=routed_batches,
    ),
    _contract(
        "opposed",
        "rows whose large gradients cancel: a sum over the devices of an expert axis in bfloat16 loses the rest",
        _OPPOSED,
        batches=opposed_rows,
    ),
    replace(  # 34 million parameters: relations that cost a step each are kept on smaller ones
        _contract("wide", "widths 1024 and 2048, eight experts", _WIDE, replace(SGD, steps=1), rows=32, length=2),
        relations=(),
    ),
)
