"""The standing matrix of sequence and context parallelism: which contract runs where, and in which dtype."""

from __future__ import annotations

from conformance.cases import Standing

SEQUENCE = ("jax-shard_map", "torch-collectives")
CONTEXT = ("jax-ring", "jax-zigzag", "jax-ulysses", "torch-ring", "torch-zigzag", "torch-ulysses")
DTYPES = ("float64", "float32", "bfloat16")
CORE = ("core", "full", "qualification")
FULL = ("full", "qualification")
CUBE = "data=2,tensor=2,sequence=2"


def _names(*short: str) -> tuple[str, ...]:
    return tuple(f"sequence/{name}" for name in short)


SMOKE = (
    Standing(
        contracts=_names("context_language_model"),
        implementations=("jax-ring", "torch-ring"),
        meshes=(CUBE,),
        profiles=("smoke",),
    ),
)

MATRIX = SMOKE
MUTATED: tuple[Standing, ...] = ()
