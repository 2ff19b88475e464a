"""The contracts of combined gradient sums: models whose gradients, tensor by tensor, are summed over data."""

from __future__ import annotations

from typing import Any

from conformance.contract.contract import Contract, Precision, Recipe
from reference.architecture import Architecture
from suites.training.contracts import contract

ADAMW = Recipe(optimizer="adamw", clip_norm=0.5, learning_rate=0.03125)
UNCLIPPED = Recipe(optimizer="sgd", weight_decay=0.0)

_MODEL = Architecture(  # 38 tensors of 6 to 640 elements: some fill a bucket, one is larger than any
    kind="language_model",
    hidden=20,
    layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_size=6,
    ffn=24,
    vocabulary=32,
    activation="swiglu",
    norm="rms",
    head_norm=True,
    tied=True,
)
_DYADIC = Architecture(kind="linear", hidden=24, outputs=32)  # a power of two: the mean does not round


def _contract(name: str, summary: str, model: Architecture, recipe: Recipe, **declared: Any) -> Contract:
    return contract(f"collectives/{name}", summary, model, recipe, **declared)


CONTRACTS = (
    _contract("gradients", "gradients of a language model, combined in buckets, AdamW, clipping", _MODEL, ADAMW),
    _contract(
        "gradients_accumulated",
        "the same over three slices of a batch",
        _MODEL,
        Recipe(optimizer="sgd", clip_norm=0.5, learning_rate=0.5, accumulation=3),
        relations=("mesh permutation",),
    ),
    _contract(
        "gradients_bfloat16_reduction",
        "the same, summed over devices in bfloat16",
        _MODEL,
        Recipe(optimizer="sgd", clip_norm=0.5, learning_rate=0.5, precision=Precision(reduction="bfloat16")),
    ),
    _contract("gradients_exact", "dyadic inputs: the same bits in whatever buckets", _DYADIC, UNCLIPPED, exact=True),
)
