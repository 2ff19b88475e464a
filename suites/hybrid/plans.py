"""Models of production size by the scanned program.

Sizes: Llama Team, The Llama 3 Herd of Models, table 3 (70B and 405B).
"""

from __future__ import annotations

from conformance.cases.plan import ScalePlan
from conformance.contract.contract import Precision, Recipe
from reference.architecture import Architecture
from suites.training.contracts import contract

_RECIPE = Recipe(optimizer="adamw", clip_norm=1.0, recompute="layer", precision=Precision(compute="bfloat16"))
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
_70B = Architecture(
    kind="language_model",
    hidden=8192,
    layers=80,
    num_heads=64,
    num_kv_heads=8,
    head_size=128,
    ffn=28672,
    vocabulary=128256,
    activation="swiglu",
    bias=False,
    rotary_base=500000.0,
)


def _plan(name: str, summary: str, model: Architecture, mesh: str, rows: int) -> ScalePlan:
    return ScalePlan(
        name=name,
        summary=summary,
        contract=contract(f"hybrid/{name}", summary, model, _RECIPE, rows=rows, length=8192),
        mesh=mesh,
        dtype="bfloat16",
        program="suites.hybrid.jax_automatic.production:LanguageModel",
        budget="suites.hybrid.budget:scanned",
        proof="hybrid/scanned[jax-scanned-fsdp2_tensor2-bfloat16]",
    )


PLANS = (
    _plan("70b", "70 billion parameters over fsdp and tensor, 128 devices", _70B, "fsdp=16,tensor=8", rows=64),
    _plan("405b", "405 billion parameters over fsdp and tensor, 512 devices", _405B, "fsdp=64,tensor=8", rows=64),
    _plan(
        "405b-16384",
        "405 billion parameters over data, fsdp and tensor, 16,384 devices",
        _405B,
        "data=32,fsdp=64,tensor=8",
        rows=2048,
    ),
)
