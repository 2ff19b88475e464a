"""The standing matrix of expert parallelism: which contract runs where, on which mesh and in which dtype.

Tokens are sharded over `data` and `expert`. One expert on each device of expert=8, several on all others; expert=4
stores the six of `uneven` in chunks of two, and one device has none.
"""

from __future__ import annotations

from conformance.cases.suite import MatrixRow

ALL = ("jax-capacity", "jax-ragged", "torch-exchange")
DTYPES = ("float64", "float32", "bfloat16")
CORE = ("core", "full", "qualification")
FULL = ("full", "qualification")
CROSSED = "data=2,expert=4"


def _names(*short: str) -> tuple[str, ...]:
    return tuple(f"moe/{name}" for name in short)


ALONE = _names("switch", "gshard", "capacity_of_batch", "dropless", "balanced", "uneven")
GATES = _names(
    "gates_softmax_raw_after",
    "gates_softmax_normalized_after",
    "gates_softmax_raw_before",
    "gates_softmax_normalized_before",
    "gates_sigmoid_raw_before",
)
MODELS = _names("layer", "language_model", "every_layer")
SLICED = _names("accumulation", "accumulation_uneven")
ROUTED = _names("routed", "routed_model")

SMOKE = (
    MatrixRow(
        contracts=_names("language_model"),
        implementations=("jax-capacity", "torch-exchange"),
        meshes=(CROSSED,),
        profiles=("smoke",),
    ),
    MatrixRow(contracts=_names("routed"), implementations=ALL, meshes=("expert=3",), profiles=("smoke",)),
)

MATRIX = (
    *SMOKE,
    MatrixRow(contracts=ALONE + GATES, implementations=ALL, meshes=(CROSSED, "expert=3"), profiles=CORE),
    MatrixRow(  # a rank holds a quarter of the rows at most
        contracts=_names("opposed"), implementations=ALL, meshes=("expert=4",), dtypes=("bfloat16",), profiles=CORE
    ),
    MatrixRow(
        contracts=ALONE,
        implementations=ALL,
        meshes=("expert=2", "expert=4", "expert=8", "data=3,expert=2@shuffled", "data=2,expert=1"),
        profiles=FULL,
    ),
    MatrixRow(contracts=MODELS + SLICED, implementations=ALL, meshes=(CROSSED,), profiles=CORE),
    MatrixRow(
        contracts=MODELS + SLICED,
        implementations=ALL,
        meshes=("expert=8", "data=4,expert=2@shuffled"),
        profiles=FULL,
    ),
    MatrixRow(contracts=MODELS, implementations=ALL, meshes=("expert=3",), profiles=FULL),
    MatrixRow(
        contracts=ROUTED,
        implementations=ALL,
        meshes=(CROSSED, "expert=3", "data=3,expert=2"),
        dtypes=DTYPES,
        profiles=CORE,
    ),
    MatrixRow(  # choices of the reference, replayed
        contracts=_names("gshard", "capacity_of_batch", "language_model"),
        implementations=ALL,
        meshes=(CROSSED,),
        dtypes=("float32", "bfloat16"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=ALONE + GATES + MODELS,
        implementations=ALL,
        meshes=("expert=3",),
        dtypes=("float32", "bfloat16"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=ALONE + GATES + MODELS + SLICED,
        implementations=ALL,
        meshes=("expert=2,tensor=4",),
        dtypes=("float32", "bfloat16"),
        profiles=FULL,
    ),
    MatrixRow(  # float16, which has more digits than bfloat16 and less range
        contracts=_names("gshard"),
        implementations=("jax-capacity", "torch-exchange"),
        meshes=(CROSSED,),
        dtypes=("float16",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=ALONE + MODELS,
        implementations=ALL,
        meshes=(CROSSED,),
        dtypes=("float16",),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("routed_policy"),
        implementations=ALL,
        meshes=(CROSSED,),
        dtypes=("float64", "bfloat16"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=ALONE + GATES + MODELS,
        implementations=ALL,
        meshes=("expert=2,tensor=4", "expert=4,tensor=2"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=ALONE + MODELS + SLICED,
        implementations=ALL,
        meshes=("data=2,expert=2,tensor=2",),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=ALONE + MODELS,
        implementations=ALL,
        meshes=("data=3,expert=2,tensor=2@shuffled",),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("wide"),
        implementations=("jax-capacity", "jax-ragged"),
        meshes=("data=4,expert=8",),
        dtypes=("float32",),
        profiles=FULL,
    ),
)

MUTATED = (
    MatrixRow(
        contracts=_names("dropless"),
        implementations=("jax-capacity", "jax-ragged", "torch-exchange"),
        meshes=("data=2,expert=3",),
    ),
)
