"""The contracts of pipeline parallelism: what a step must compute however its layers and its rows are cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conformance.contract.contract import Contract, Precision, Recipe
from reference.architecture import Architecture
from reference.batches import skewed_batches
from suites.training.contracts import contract

# Clipping thresholds lie near half the gradient norm of the first step, so that clipping always acts.
SGD = Recipe(optimizer="sgd", clip_norm=0.25, learning_rate=0.5, microbatches=4)
ADAMW = Recipe(optimizer="adamw", clip_norm=0.75, learning_rate=0.03125, microbatches=4)

_GUIDE = Architecture(  # the example of pipeline guides: unequal widths, ten classes
    kind="perceptron", widths=(784, 512, 512, 256, 256, 128, 10), label_smoothing=0.125, z_loss=0.0625
)
_SMALL = replace(_GUIDE, widths=(26, 20, 18, 20, 22, 20, 14, 20, 10))  # eight layers, no two cuts alike
_SKIPS = replace(_SMALL, skips=((0, 2), (2, 6), (4, 6)))
_IMAGES = Architecture(
    kind="convolution",
    image=(9, 7, 3),
    channels=(6, 8, 5, 10, 6, 8, 7),
    strides=(1, 2, 1, 1, 2, 1, 1),
    outputs=10,
    label_smoothing=0.125,
)
_MODEL = Architecture(
    kind="language_model",
    hidden=20,
    layers=6,
    num_heads=4,
    num_kv_heads=2,
    head_size=6,
    ffn=28,
    vocabulary=29,
    activation="swiglu",
    norm="rms",
    tied=True,
    label_smoothing=0.125,
    z_loss=0.0625,
)
_UNTIED = replace(_MODEL, layers=7, norm="layer", activation="gelu", tied=False, positions="sinusoidal")
_DOCUMENTS = replace(_MODEL, documents=True, shift_labels=True)
_DROPOUT = replace(_MODEL, dropout=0.25)


def _contract(name: str, summary: str, model: Architecture, recipe: Recipe = SGD, **declared: Any) -> Contract:
    return contract(f"pipeline/{name}", summary, model, recipe, **declared)


def _microbatches(number: int, recipe: Recipe = ADAMW, **changed: Any) -> Recipe:
    return replace(recipe, microbatches=number, **changed)


CONTRACTS = (
    _contract(
        "perceptron_guide",
        "784-512-512-256-256-128-10, 32 rows in 4 microbatches: all gradients, of inputs too",
        _GUIDE,
        rows=32,
    ),
    _contract(
        "perceptron",
        "eight layers of different widths; microbatches without a valid row",
        _SMALL,
        batches=skewed_batches,
    ),
    _contract("perceptron_skips", "skip tensors cross one cut, or several, beside the activation", _SKIPS),
    _contract("convolution", "images shrink on their way through the stages", _IMAGES),
    _contract(
        "language_model",
        "tied over first and last stage; masks differ by microbatch; the attention mask is passed through all stages",
        _MODEL,
        ADAMW,
        batches=skewed_batches,
        relations=("accumulation",),
    ),
    _contract("language_model_untied", "own head, layer norm, seven layers over uneven stages", _UNTIED),
    *(
        _contract(
            f"microbatches_{number}",
            f"{number} microbatches count as one large batch",
            _MODEL,
            _microbatches(number),
            rows=48,
        )
        for number in (2, 8, 12)
    ),
    _contract(
        "documents", "packed documents, labels shifted; document starts are passed through all stages", _DOCUMENTS
    ),
    _contract(
        "dropout",
        "dropout masks depend on the seed of a row, not on its microbatch",
        _DROPOUT,
        relations=("accumulation",),
    ),
    _contract(
        "dropout_recomputed",
        "a recomputed layer applies the same dropout mask",
        _DROPOUT,
        replace(SGD, recompute="layer"),
        relations=("recompute",),
    ),
    _contract(
        "accumulation",
        "slices of 3, 2 and 1 shares, each cut into microbatches, count as one large batch",
        _MODEL,
        replace(SGD, accumulation=3, shares=(3, 2, 1), microbatches=2),
        rows=48,
    ),
    _contract(
        "decay_groups",
        "biases are not decayed, on any rank and in any packed vector",
        _SMALL,
        replace(ADAMW, decays="weights", weight_decay=0.25, clip_norm=0.125),
    ),
    _contract(
        "policy_bfloat16",
        "parameters and products in bfloat16, rounded from float32 master weights; gradients in float32",
        _MODEL,
        replace(ADAMW, precision=Precision(parameters="bfloat16", compute="bfloat16", master="float32")),
    ),
    _contract(
        "saved",
        "every stage is saved with its slots and master weights, loaded into other stages, and training continues",
        _MODEL,
        replace(ADAMW, precision=Precision(master="float32")),
        rows=48,
        relations=("initial values", "checkpoint", "damaged checkpoint"),
    ),
    _contract(
        "replicas",
        "two replicas of four stages, microbatches of eight rows",
        _SMALL,
        _microbatches(4, SGD),
        rows=64,
    ),
    _contract(
        "refused",
        "rows that make no equal microbatches are refused, and the message has both numbers",
        _SMALL,
        _microbatches(6, SGD),
        rows=8,
    ),
)
