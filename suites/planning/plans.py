"""From a layout to what is compiled: the scanned program, its contract at its size, its budget and its proof."""

from __future__ import annotations

from functools import cache

from conformance.cases.plan import ScalePlan
from conformance.cases.plannable import Layout, Training
from conformance.cases.variation import name_of
from conformance.contract.contract import Contract, Precision, Recipe
from conformance.contract.mesh import Mesh
from reference.architecture import Architecture
from suites.hybrid.plans import rows_alike
from suites.planning.shapes import parameters
from suites.planning.stages import PROGRAMS
from suites.training.contracts import contract

COMPUTE = "bfloat16"
DENSE, MIXED = "suites.hybrid.budget:scanned", "suites.hybrid.budget_mixture:scanned_mixture"
PRECISIONS = {
    "float32": Precision(compute=COMPUTE),
    "bfloat16": Precision(compute=COMPUTE, parameters="bfloat16", gradients="bfloat16"),
}
PROVEN = "layer"  # what the standing cases compute again
MOST_SMALL = 2  # devices along each axis of the mesh on which the program is proven


def scale_plan(name: str, training: Training, layout: Layout) -> ScalePlan:
    """What `shardproof scale` compiles."""
    summary = f"{parameters(training.model):,} parameters on {layout}"
    program, budget = programs(training, layout)
    return ScalePlan(
        name=name,
        summary=summary,
        contract=planned_contract(training, layout),
        mesh=str(layout.mesh),
        dtype=COMPUTE,
        program=program,
        budget=budget,
        proof=proof(training, layout),
        reduction=COMPUTE,
    )


def programs(training: Training, layout: Layout) -> tuple[str, str]:
    """The program of a layout, and its budget; stages have budgets of their own."""
    if layout.mesh.size("pipeline") > 1:
        return f"suites.hybrid.jax_automatic.pipelined:{PROGRAMS[layout.schedule]}", DENSE
    name = f"{'Mixture' if training.model.experts else ''}LanguageModel"
    return f"suites.hybrid.jax_automatic.production:{name}", MIXED if training.model.experts else DENSE


def proof(training: Training, layout: Layout) -> str:
    """The case in which the same program runs small: the same axes and what it computes again, and slices.

    Stages compute each of their layers again.
    """
    axes = tuple((axis, MOST_SMALL) for axis, size in layout.mesh.sizes if size > 1)
    mesh = Mesh(sizes=axes or (("fsdp", 1),))
    varied = {"recompute": layout.recompute} if layout.recompute != PROVEN else {}
    if training.model.experts:
        return f"{name_of('hybrid/scanned_mixture', varied)}[jax-scanned_mixture-{mesh.slug}-{COMPUTE}]"
    if layout.mesh.size("pipeline") > 1:
        return f"hybrid/scanned_stages[jax-staged-{layout.schedule}-{mesh.slug}-{COMPUTE}]"
    name = "scanned_slices" if layout.microbatches > 1 else "scanned"
    return f"{name_of(f'hybrid/{name}', varied)}[jax-scanned-{mesh.slug}-{COMPUTE}]"


def planned_contract(training: Training, layout: Layout) -> Contract:
    """The model at its size, under the recipe of a layout."""
    has_stages = layout.mesh.size("pipeline") > 1
    return _with(
        training.model, training.rows, training.length, training.parameters, layout.microbatches, layout.recompute,
        has_stages,
    )  # fmt: skip


@cache
def _with(
    model: Architecture, rows: int, length: int, dtype: str, microbatches: int, recompute: str, has_stages: bool
) -> Contract:
    """Kept, since a search asks for each of them again and again."""
    accumulation, staged = (1, microbatches) if has_stages else (microbatches, 1)
    recipe = Recipe(
        optimizer="adamw", clip_norm=1.0, recompute=recompute, accumulation=accumulation, microbatches=staged,
        precision=PRECISIONS[dtype],
    )  # fmt: skip
    summary = "a model of a planned size"
    return contract("hybrid/planned", summary, model, recipe, batches=rows_alike, rows=rows, length=length)
