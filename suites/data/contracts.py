"""The contracts of data parallelism and sharded state: what a step must compute however its batch and state are cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conformance.contract.contract import Contract, Precision, Recipe
from reference.architecture import Architecture
from reference.batches import cancelling_batches, skewed_batches, weighted_batches
from reference.held_out import evaluated_batches
from reference.opposed import opposed_rows
from suites.training.contracts import EVALUATED, contract

# Clipping thresholds lie near half the gradient norm of the first step, so that clipping always acts.
SGD = Recipe(optimizer="sgd", clip_norm=0.75, learning_rate=0.5)
ADAMW = Recipe(optimizer="adamw", clip_norm=0.75, learning_rate=0.03125)
MUON = Recipe(optimizer="muon", clip_norm=0.75, learning_rate=0.0625)
LAMB = Recipe(optimizer="lamb", clip_norm=0.75, learning_rate=0.0625, decays="weights")
UNCLIPPED = Recipe(optimizer="sgd", weight_decay=0.0)

_MODEL = Architecture(  # no size divides by 8, or by all of 2, 3 and 4
    kind="language_model",
    hidden=20,
    layers=1,
    num_heads=4,
    num_kv_heads=2,
    head_size=6,
    ffn=26,
    vocabulary=29,
    activation="swiglu",
    norm="rms",
    tied=True,
    label_smoothing=0.125,
    z_loss=0.0625,
)
_TWO_LAYERS = replace(_MODEL, layers=2, norm="layer", activation="gelu", tied=False)
_OPPOSED = replace(_TWO_LAYERS, bias=False)
_DROPOUT = replace(_MODEL, dropout=0.25)
_DYADIC = Architecture(kind="linear", hidden=24, outputs=32)  # a power of two: the mean does not round
_TOWERS = Architecture(kind="contrastive", hidden=20, ffn=26, activation="swiglu")
_CANCELLING = Architecture(kind="linear", hidden=20, outputs=16)

_EVERYTHING = ("mesh permutation", "recompute", "accumulation")
_SAVED = ("initial values", "checkpoint", "damaged checkpoint")


def _contract(name: str, summary: str, model: Architecture = _MODEL, recipe: Recipe = SGD, **declared: Any) -> Contract:
    return contract(f"data/{name}", summary, model, recipe, **declared)


def _accumulated(slices: int, rows: int) -> Contract:
    recipe, summary = replace(SGD, accumulation=slices), f"{slices} slices of a batch count as one large batch"
    return _contract(f"accumulation_{slices}", summary, recipe=recipe, rows=rows)


def _policy(name: str, summary: str, recipe: Recipe = SGD, **precision: Any) -> Contract:
    recipe = replace(recipe, precision=Precision(**precision))
    return _contract(f"policy_{name}", summary, recipe=recipe)


CONTRACTS = (
    _contract(
        "ragged",
        "the mean over all valid tokens; shards without any, with one and with nearly all of them",
        batches=skewed_batches,
    ),
    _contract("weighted", "the mean weighted over the whole batch; weights from 1/2 to 4", batches=weighted_batches),
    _contract(
        "contrastive",
        "every row is contrasted with the valid rows of all ranks, and contributes to their gradients",
        _TOWERS,
    ),
    _contract(
        "contrastive_skewed",
        "the same where some ranks have no valid row, and one nearly all",
        _TOWERS,
        ADAMW,
        batches=skewed_batches,
    ),
    _contract("exact", "dyadic inputs, no rounding anywhere", _DYADIC, UNCLIPPED, exact=True),
    _contract(
        "cancelling",
        "gradients of shards that cancel to a few bits: a sum in bfloat16 loses them",
        _CANCELLING,
        UNCLIPPED,
        batches=cancelling_batches,
        exact=True,
    ),
    _contract(
        "cancelling_bfloat16",
        "the same with the model computing in bfloat16 and gradients in float32",
        _CANCELLING,
        replace(UNCLIPPED, precision=Precision(compute="bfloat16")),
        batches=cancelling_batches,
        exact=True,
    ),
    _contract(
        "opposed",
        "rows whose large gradients cancel, in two layers: a sum over ranks in bfloat16 loses the rest",
        _OPPOSED,
        batches=opposed_rows,
    ),
    _contract(
        "opposed_slices",
        "the same rows slice by slice: slices added up in bfloat16 lose the rest",
        _OPPOSED,
        replace(SGD, accumulation=4),
        batches=opposed_rows,
        rows=16,
    ),
    _contract(
        "language_model", "tied decoder language model, AdamW, clipping", recipe=ADAMW, rows=48, relations=_EVERYTHING
    ),
    _contract("language_model_sgd", "two layers, own head, layer norm, SGD, clipping", _TWO_LAYERS),
    _contract("muon", "Muon: whole matrices are orthogonalised, however they are sharded", recipe=MUON),
    _contract("lamb", "LAMB: steps are scaled by the norms of whole tensors, however they are sharded", recipe=LAMB),
    _contract(
        "decay_groups",
        "biases and scales of norms are not decayed, however the state is sharded or flattened",
        _TWO_LAYERS,
        replace(ADAMW, decays="weights", weight_decay=0.25),
    ),
    *(_accumulated(slices, rows) for slices, rows in ((2, 24), (3, 36), (8, 48))),
    _contract(
        "accumulation_uneven",
        "slices of 3, 2 and 1 shares of the rows count as one large batch",
        recipe=replace(SGD, accumulation=3, shares=(3, 2, 1)),
        rows=72,
    ),
    _policy("bfloat16_parameters", "parameters in bfloat16, all else in float32", parameters="bfloat16"),
    _policy(
        "bfloat16_compute", "parameters in float32, all else in bfloat16", compute="bfloat16", gradients="bfloat16"
    ),
    _policy(
        "master",
        "parameters and products in bfloat16, rounded from float32 master weights",
        ADAMW,
        parameters="bfloat16",
        compute="bfloat16",
        master="float32",
    ),
    _policy(
        "small_updates",
        "updates below the last bit of a bfloat16 parameter accumulate in its float32 master weights",
        replace(SGD, learning_rate=2.0**-10),
        parameters="bfloat16",
        compute="bfloat16",
        master="float32",
    ),
    _policy("bfloat16_reduction", "gradients are summed over devices in bfloat16", reduction="bfloat16"),
    _contract(
        "dropout", "dropout masks depend on the seed of a row, not on its device", _DROPOUT, relations=("accumulation",)
    ),
    replace(
        _contract(
            "evaluation",
            "after every step, an evaluation on 29 rows: no row twice or left out, no padding row counted",
            _DROPOUT,
            batches=evaluated_batches,
        ),
        references=EVALUATED,
    ),
    _contract(
        "dropout_recomputed",
        "a recomputed layer applies the same dropout mask",
        _DROPOUT,
        replace(SGD, recompute="layer"),
        relations=("recompute",),
    ),
    _contract(
        "checkpoint",
        "a checkpoint of one mesh is loaded on another, and training continues with the same values",
        _DROPOUT,
        replace(ADAMW, accumulation=3, steps=4),
        rows=48,
        relations=_SAVED,
    ),
)
