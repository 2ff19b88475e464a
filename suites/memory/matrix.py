"""The standing matrix of the policies of memory: both frameworks, rows over data and weights over tensor."""

from __future__ import annotations

from conformance.cases.suite import MatrixRow

BOTH = ("jax-shard_map", "torch-collectives")
CORE = ("core", "full", "qualification")
FULL = ("full", "qualification")
CROSSED, UNEVEN = "data=2,tensor=2", "data=4,tensor=2@shuffled"


def _names(*short: str) -> tuple[str, ...]:
    return tuple(f"memory/{name}" for name in short)


POLICIES = _names("layer", "every_second", "attention", "feedforward", "local")
ALL = POLICIES + _names("kept", "kept_master", "dropout", "accumulation", "spilled", "spilled_attention")

MATRIX = (
    MatrixRow(contracts=_names("local"), implementations=BOTH, meshes=(CROSSED,), profiles=("smoke", *CORE)),
    MatrixRow(
        contracts=POLICIES + _names("kept", "dropout", "spilled"),
        implementations=BOTH,
        meshes=(CROSSED,),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("kept_master", "spilled_attention", "every_second"),
        implementations=BOTH,
        meshes=("tensor=4",),
        dtypes=("bfloat16",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=ALL,
        implementations=BOTH,
        meshes=(CROSSED, UNEVEN, "tensor=4", "data=2"),
        dtypes=("float64", "float32", "bfloat16"),
        profiles=FULL,
    ),
)
