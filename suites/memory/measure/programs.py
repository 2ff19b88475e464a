"""What is measured: policies, models and meshes. Framework-neutral."""

from __future__ import annotations

from dataclasses import replace

from conformance.contract.contract import Contract, Precision, Recipe
from reference.architecture import Architecture
from suites.training.contracts import contract

POLICIES = ("none", "attention", "feedforward", "layer every 2", "layer but tensor", "layer")
MESH = "data=2,tensor=2"
ACCUMULATIONS = (1, 2, 4)
WIDER = ((1, 2), (2, 2), (4, 2), (1, 4), (2, 4))  # sizes of tensor and pipeline
RECIPE = Recipe(optimizer="adamw", clip_norm=1.0)
SPILLED_FROM = {"small": 16 * 1024, "wide": 16 * 2**20}

_SMALL = Architecture(
    kind="language_model", hidden=64, layers=4, num_heads=8, num_kv_heads=8, head_size=8, ffn=256, vocabulary=256,
    activation="gelu", norm="layer",
)  # fmt: skip
_WIDE = replace(_SMALL, hidden=1024, num_heads=16, num_kv_heads=16, head_size=64, ffn=4096, vocabulary=8192)
_SHAPES = {"small": (_SMALL, 16, 64), "wide": (_WIDE, 32, 512)}
_PRECISION = {"small": Precision(), "wide": Precision(compute="bfloat16", gradients="float32")}


def measured(shape: str, **recipe: object) -> Contract:
    """The contract of a shape with a policy in its recipe."""
    model, rows, length = _SHAPES[shape]
    made = replace(RECIPE, precision=_PRECISION[shape], **recipe)  # type: ignore[arg-type]
    return contract(f"memory/{shape}", "what a policy saves and costs", model, made, rows=rows, length=length)


def spilled_from(shape: str) -> int:
    """Bytes of the smallest activation that is moved to host memory."""
    return SPILLED_FROM[shape]
