"""What is compiled: the model, the recipe, the mesh and the schedule of each standing shape."""

from __future__ import annotations

from dataclasses import dataclass, replace

from conformance.contract.contract import Contract, Precision, Recipe
from conformance.contract.mesh import Mesh
from reference.architecture import Architecture
from suites.hybrid.jax_manual import three_axes
from suites.training.contracts import contract

_BFLOAT16 = Precision(compute="bfloat16", gradients="float32")
_LARGE = Architecture(
    kind="language_model",
    hidden=4096,
    layers=16,
    num_heads=32,
    num_kv_heads=32,
    head_size=128,
    ffn=16384,
    vocabulary=50000,
    positions="sinusoidal",
    norm="layer",
)
_DEEP = replace(_LARGE, hidden=1024, layers=24, num_heads=16, num_kv_heads=16, head_size=64, ffn=4096)
_FIRST = replace(_LARGE, layers=1)


class Quiet:
    """Observes nothing but the loss, so that memory is that of training."""

    def stage(self, *given):
        out, _, sums = super().stage(*given)  # type: ignore[misc]
        return out, {}, sums


class EmbeddingFirst(Quiet, three_axes.EmbeddingFirst):
    pass


class Balanced(Quiet, three_axes.LanguageModel):
    pass


class GPipe(Quiet, three_axes.GPipe):
    pass


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program: rows and tokens are of the whole batch."""

    contract: Contract
    mesh: Mesh
    implementation: type[three_axes.LanguageModel | three_axes.EmbeddingFirst | three_axes.GPipe]


def _program(
    name: str, summary: str, model: Architecture, mesh: str, implementation: type, rows: int, recompute: str = "none"
) -> Program:
    recipe = Recipe(optimizer="adamw", microbatches=4, recompute=recompute, clip_norm=1.0, precision=_BFLOAT16)
    made = contract(f"hybrid/{name}", summary, model, recipe, rows=rows, length=512)
    return Program(contract=made, mesh=Mesh.parse(mesh), implementation=implementation)


PROGRAMS = (
    _program(
        "embedding_first",
        "stage 0 a vocabulary-sharded embedding, stage 1 attention and a sharded head",
        _FIRST,
        "data=2,tensor=2,pipeline=2",
        EmbeddingFirst,
        rows=16,
    ),
    _program(
        "deep",
        "24 layers of width 1024 in two stages",
        _DEEP,
        "data=2,tensor=4,pipeline=2",
        Balanced,
        rows=16,
    ),
    _program(
        "large",
        "16 layers of width 4096, GPipe, selective checkpointing",
        _LARGE,
        "data=4,tensor=2,pipeline=2",
        GPipe,
        rows=32,
        recompute="attention",
    ),
)
