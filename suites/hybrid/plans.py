"""Models of production size: in JAX by the scanned program, in torch by FSDP2 and DTensor.

Sizes: Llama Team, The Llama 3 Herd of Models, table 3 (70B and 405B); DeepSeek-AI, DeepSeek-V3 Technical Report,
section 4.2 (671B, of which 37B for a token).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from conformance.cases.plan import Program, ScalePlan
from conformance.contract.contract import Arrays, Precision, Recipe
from reference.architecture import Architecture
from reference.batches import random_batches
from suites.training.contracts import contract

_RECIPE = Recipe(optimizer="adamw", clip_norm=1.0, recompute="layer", precision=Precision(compute="bfloat16"))
_SCANNED = Program(
    program="suites.hybrid.jax_automatic.production:LanguageModel",
    budget="suites.hybrid.budget:scanned",
    proof="hybrid/scanned[jax-scanned-fsdp2_tensor2-bfloat16]",
    reduction="bfloat16",
)
_MIXED = Program(
    program="suites.hybrid.jax_automatic.production:MixtureLanguageModel",
    budget="suites.hybrid.budget_mixture:scanned_mixture",
    proof="hybrid/scanned_mixture[jax-scanned_mixture-fsdp2_expert2_tensor2-bfloat16]",
    reduction="bfloat16",
)
_LONG = replace(_SCANNED, proof="hybrid/scanned[jax-scanned-fsdp2_sequence2_tensor2-bfloat16]")
_STAGED = replace(
    _SCANNED,
    program="suites.hybrid.jax_automatic.pipelined:LanguageModel",
    proof="hybrid/scanned_stages[jax-staged-1f1b-pipeline2_fsdp2_tensor2-bfloat16]",
)
_TORCH = Program(
    program="suites.hybrid.torch_fsdp2.production:LanguageModel",
    budget="suites.hybrid.torch_fsdp2.budget:modules",
    proof="hybrid/scanned[torch-fsdp2_tensor-fsdp2_tensor2-bfloat16]",
)
_405B = Architecture(
    kind="language_model",
    hidden=16384,
    layers=126,
    num_heads=128,
    num_kv_heads=8,
    head_size=128,
    ffn=53248,
    vocabulary=128256,
    activation="swiglu",
    bias=False,
    rotary_base=500000.0,
)
_70B = replace(_405B, hidden=8192, layers=80, num_heads=64, ffn=28672)
_671B_MIXTURE = Architecture(
    kind="language_model",
    hidden=7168,
    layers=61,
    num_heads=128,
    num_kv_heads=8,
    head_size=128,
    ffn=2048,
    vocabulary=129280,
    activation="swiglu",
    bias=False,
    experts=256,
    top_k=8,
    shared_ffn=2048,
    scores="sigmoid",
    normalized_gates=True,
    capacity_factor=1.25,
    router_bias=True,
    bias_update_rate=0.001,
    balance_loss=0.0001,
    balance_scope="row",
)


@cache
def rows_alike(model: Architecture, rows: int, length: int, seed: int, steps: int) -> list[Arrays]:
    """Batches of one row, seen so many times: shapes and dtypes are what is compiled, and no value is ever read."""
    batches = random_batches(model, 1, length, seed, steps)
    return [
        {key: np.broadcast_to(value, (rows, *value.shape[1:])) for key, value in batch.items()} for batch in batches
    ]


def planned(
    name: str,
    summary: str,
    model: Architecture,
    mesh: str,
    *,
    rows: int,
    length: int = 8192,
    microbatches: int = 1,
    jax: Program = _SCANNED,
    torch: Program | None = _TORCH,
) -> ScalePlan:
    """A model over the axes of a mesh, each layer computed again in the backward pass, in bfloat16."""
    recipe = replace(_RECIPE, microbatches=microbatches)
    return ScalePlan(
        name=name,
        summary=summary,
        contract=contract(f"hybrid/{name}", summary, model, recipe, batches=rows_alike, rows=rows, length=length),
        mesh=mesh,
        dtype="bfloat16",
        program=jax.program,
        budget=jax.budget,
        proof=jax.proof,
        reduction=jax.reduction,
        torch=torch,
    )


PLANS = (
    planned("70b", "70 billion parameters over fsdp and tensor, 128 devices", _70B, "fsdp=16,tensor=8", rows=64),
    planned("405b", "405 billion parameters over fsdp and tensor, 512 devices", _405B, "fsdp=64,tensor=8", rows=64),
    planned(
        "70b-long",
        "70 billion parameters on rows of 16,384 tokens over fsdp, sequence and tensor, 256 devices",
        _70B,
        "fsdp=16,sequence=4,tensor=4",
        rows=64,
        length=16384,
        jax=_LONG,
        torch=None,
    ),
    planned(
        "405b-stages",
        "405 billion parameters over a pipeline of 8 stages under 1F1B, fsdp and tensor, 512 devices",
        _405B,
        "pipeline=8,fsdp=8,tensor=8",
        rows=256,
        microbatches=32,
        jax=_STAGED,
        torch=None,
    ),
    planned(
        "405b-16384",
        "405 billion parameters over data, fsdp and tensor, 16,384 devices",
        _405B,
        "data=32,fsdp=64,tensor=8",
        rows=2048,
    ),
    planned(
        "671b-mixture",
        "a mixture of the size of DeepSeek-V3 (256 experts, top 8, one shared) over data, fsdp, expert and tensor, "
        "2,048 devices; unlike it with grouped-query attention of 8 key heads for latent attention, mixtures in the "
        "first three layers too, 1.25 times as many places as choices, no groups of experts, no scaled gates and no "
        "prediction of a second token",
        _671B_MIXTURE,
        "data=2,fsdp=8,expert=16,tensor=8",
        rows=1024,
        length=4096,
        jax=_MIXED,
        torch=None,
    ),
)
