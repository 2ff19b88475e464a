"""Models of production size: in JAX by the scanned program, in torch by FSDP2 and DTensor.

Sizes: Llama Team, The Llama 3 Herd of Models, table 3 (70B and 405B).
"""

from __future__ import annotations

from conformance.cases.plan import Program, ScalePlan
from conformance.contract.contract import Precision, Recipe
from reference.architecture import Architecture
from suites.training.contracts import contract

_RECIPE = Recipe(optimizer="adamw", clip_norm=1.0, recompute="layer", precision=Precision(compute="bfloat16"))
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


def planned(name: str, summary: str, model: Architecture, mesh: str, rows: int, length: int = 8192) -> ScalePlan:
    """A model over fsdp and tensor (and data), each layer computed again in the backward pass, in bfloat16."""
    return ScalePlan(
        name=name,
        summary=summary,
        contract=contract(f"hybrid/{name}", summary, model, _RECIPE, rows=rows, length=length),
        mesh=mesh,
        dtype="bfloat16",
        program="suites.hybrid.jax_automatic.production:LanguageModel",
        budget="suites.hybrid.budget:scanned",
        proof="hybrid/scanned[jax-scanned-fsdp2_tensor2-bfloat16]",
        torch=_TORCH,
    )


PLANS = (
    planned("70b", "70 billion parameters over fsdp and tensor, 128 devices", _70B, "fsdp=16,tensor=8", rows=64),
    planned("405b", "405 billion parameters over fsdp and tensor, 512 devices", _405B, "fsdp=64,tensor=8", rows=64),
    planned(
        "405b-16384",
        "405 billion parameters over data, fsdp and tensor, 16,384 devices",
        _405B,
        "data=32,fsdp=64,tensor=8",
        rows=2048,
    ),
)
