"""The contracts of sequence and context parallelism.

Those of tensor parallelism hold with the tokens sharded too, so they stand here again, row by row. The others are about
attention across shards of a row: documents and padding that cross them, labels and positions, masks of dropout.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from conformance.contract.contract import Arrays, Contract, Recipe
from reference.architecture import Architecture, shapes
from reference.batches import random_batches, with_shard_edges
from reference.opposed import SCORING, indifferent, opposed_tokens, opposed_words
from reference.parameters import draw
from suites.tensor.contracts import ADAMW, SGD, WIDE
from suites.tensor.contracts import CONTRACTS as TENSOR
from suites.training.contracts import contract

ROWS, LENGTH, UNEVEN = 12, 16, 13  # rows divide by data x accumulation; tokens by 2, 4 and 8, or by nothing
SGD_ACCUMULATED = Recipe(optimizer="sgd", clip_norm=0.25, learning_rate=0.5, accumulation=3)  # no axis has this size
RECOMPUTED = replace(SGD, recompute="layer")

RERUN = ("mesh permutation", "recompute", "accumulation")  # relations that take another program
SAVED = ("initial values", "checkpoint")


def _renamed(name: str) -> Contract:
    """A contract of tensor parallelism, which holds here too."""
    [origin] = (contract for contract in TENSOR if contract.name == f"tensor/{name}")
    return replace(origin, name=f"sequence/{name}", summary=f"{origin.summary}; between blocks the tokens are sharded")


def _contract(
    name: str,
    summary: str,
    model: Architecture,
    recipe: Recipe = SGD,
    *,
    rows: int = ROWS,
    length: int = LENGTH,
    **declared: Any,
) -> Contract:
    return contract(f"sequence/{name}", summary, model, recipe, rows=rows, length=length, **declared)


def _indifferent(contract: Contract) -> Contract:
    """With queries that see all keys alike, which is so in the first step alone."""
    still = tuple(f"gradients/{name}" for name in contract.shapes if name.endswith(SCORING))
    return replace(contract, parameters=partial(indifferent, contract.shapes), still=still)


_GQA = Architecture(kind="attention", hidden=20, num_heads=8, num_kv_heads=2, head_size=6, head_norm=True)
_HEADS_12 = Architecture(kind="attention", hidden=20, num_heads=12, num_kv_heads=2, head_size=4)
_COINCIDENT = Architecture(  # heads, head size and the tokens of one device of four coincide
    kind="attention", hidden=16, num_heads=4, num_kv_heads=4, head_size=4, fused_qkv=True
)
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
    dropout=0.25,
)
_MODEL = Architecture(
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
    shift_labels=True,
    documents=True,
    dropout=0.25,
    label_smoothing=0.125,
    z_loss=0.0625,
)
_SINUSOIDAL = Architecture(
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
    shift_labels=True,
)
_OPPOSED = Architecture(  # without positions, so that two documents of the same tokens are alike
    kind="language_model",
    hidden=20,
    layers=2,
    num_heads=8,
    num_kv_heads=8,
    head_size=6,
    ffn=24,
    vocabulary=32,
    activation="swiglu",
    norm="rms",
    positions="none",
    documents=True,
    bias=False,
)
_OPPOSED_QUERIES = replace(_OPPOSED, layers=1, documents=False, causal=False)
_ADAPTER = Architecture(kind="feedforward", hidden=12, ffn=24, adapter=5)


def _without_padding(*plan: Any) -> list[Arrays]:
    """Every token is a real one."""
    return [batch | {"attention_mask": np.ones_like(batch["attention_mask"])} for batch in random_batches(*plan)]


def _uneven_scores(*plan: Any) -> list[Arrays]:
    """Tokens on scales between 1/4 and 4, so that the largest scores differ from block to block."""
    batches = random_batches(*plan)
    for batch in batches:
        scale_S = 2.0 ** ((7 * np.arange(batch["mask"].shape[1])) % 5 - 2)
        batch["inputs"] = batch["inputs"] * scale_S[:, None]
    return batches


def _wide_scores(seed: int) -> Arrays:
    """Scores in the hundreds: their exponentials vanish or overflow unless each is relative to the largest."""
    drawn = draw(shapes(_HEADS_12), seed)
    return drawn | {"attention.query.weight": 32 * drawn["attention.query.weight"]}


def _late_tokens(model: Architecture, rows: int, length: int, seed: int, steps: int) -> list[Arrays]:
    """Of every second batch only the last quarter of the rows counts: some shards have no valid token."""
    batches = random_batches(model, rows, length, seed, steps)
    for batch in batches[1::2]:
        mask_BS = batch["mask"]
        mask_BS[:, : -(-3 * mask_BS.shape[1] // 4)] = 0
    return [with_shard_edges(model, batch, seed, step) for step, batch in enumerate(batches)]


_SAME = (
    _renamed("column_linear"),
    _renamed("column_linear_uneven"),
    _renamed("column_linear_exact"),
    _renamed("row_linear"),
    _renamed("row_linear_uneven"),
    _renamed("row_linear_exact"),
    _renamed("vocabulary"),
    _renamed("vocabulary_untied"),
    _renamed("attention_mha_fused"),
    _renamed("attention_gqa_headnorm"),
    _renamed("attention_mqa"),
    _renamed("mlp"),
    _renamed("swiglu"),
    _renamed("swiglu_uneven"),
    _renamed("layer"),
    _renamed("layer_coincident"),
    _renamed("language_model"),
    _renamed("language_model_untied"),
)

CONTRACTS = (
    *_SAME,
    _contract(
        "layer_dropout",
        "a decoder layer with dropout: every device draws the masks of its own tokens",
        _LAYER,
        length=7,
    ),
    _contract(
        "layer_recomputed",
        "the same, computed again in the backward pass",
        _LAYER,
        RECOMPUTED,
        length=7,
    ),
    _contract(
        "mlp_adapter",
        "feed-forward with a low-rank adapter, whose second factor meets sharded tokens",
        _ADAPTER,
        length=7,
    ),
    _contract("attention", "grouped-query attention, causal, rotary, over a sharded row of 16 tokens", _GQA),
    _contract("attention_uneven", "the same over 13 tokens, with 12 heads over 2", _HEADS_12, length=UNEVEN),
    _contract(
        "attention_documents",
        "attention within documents, which cross shards anywhere",
        replace(_GQA, documents=True),
    ),
    _contract(
        "attention_bidirectional",
        "attention without causality and without padding",
        replace(_GQA, num_kv_heads=8, head_norm=False, causal=False),
        batches=_without_padding,
    ),
    _contract(
        "attention_one_key_head",
        "multi-query attention: one key head for all, no bias",
        replace(_GQA, num_kv_heads=1, head_norm=False, bias=False),
    ),
    replace(
        _contract(
            "attention_wide",
            "scores in the hundreds, whose largest differ from block to block",
            _HEADS_12,
            WIDE,
            batches=_uneven_scores,
        ),
        parameters=_wide_scores,
        formulations=(replace(_HEADS_12, fused_gradient=True),),  # where one key has all the weight they differ
    ),
    _contract(
        "attention_coincident",
        "attention whose heads, head size and tokens of a device of four all are 4",
        _COINCIDENT,
        relations=("second model",),
    ),
    _contract(
        "opposed",
        "documents whose large gradients cancel: a sum over shards of the tokens in bfloat16 loses the rest",
        _OPPOSED,
        batches=opposed_tokens,
    ),
    _indifferent(
        _contract(
            "opposed_queries",
            "gradients of values that cancel: a sum round the ring in bfloat16 loses the rest",
            _OPPOSED_QUERIES,
            replace(SGD, steps=1),
            batches=opposed_words,
        )
    ),
    _contract(
        "context_layer",
        "a decoder layer over a sharded row: documents, dropout",
        replace(_LAYER, documents=True),
        SGD_ACCUMULATED,
        relations=RERUN,
    ),
    _contract(
        "context_layer_recomputed",
        "the same with recomputation: keys and values go round the ring once more",
        replace(_LAYER, documents=True),
        RECOMPUTED,
    ),
    _contract(
        "context_language_model",
        "decoder language model over sharded rows: shifted labels, documents, dropout, accumulation, every loss term",
        _MODEL,
        SGD_ACCUMULATED,
        batches=_late_tokens,
    ),
    _contract(
        "context_language_model_sinusoidal",
        "decoder language model over sharded rows of 13 tokens: sinusoidal positions, own head, AdamW",
        _SINUSOIDAL,
        ADAMW,
        length=UNEVEN,
        relations=SAVED,
    ),
)
