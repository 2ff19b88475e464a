"""The standing matrix of hybrid parallelism: every pair of axes, with unequal sizes, in both frameworks."""

from __future__ import annotations

from conformance.cases.suite import MatrixRow

FIVE = ("jax-five_axes-capacity", "jax-five_axes-ragged", "torch-five_axes")
THREE = ("jax-three_axes", "torch-three_axes")
STAGED = ("jax-pipelined", "torch-pipelined")
CONTEXT = ("jax-pipelined_context", "torch-pipelined_context")
DTYPES = ("float64", "float32", "bfloat16")
CORE = ("core", "full", "qualification")
FULL = ("full", "qualification")


def names(*short: str) -> tuple[str, ...]:
    return tuple(f"hybrid/{name}" for name in short)


SMOKE = (
    MatrixRow(
        contracts=names("embedding_first"),
        implementations=THREE,
        meshes=("data=2,tensor=2,pipeline=2",),
        profiles=("smoke", *CORE),
    ),
    MatrixRow(
        contracts=names("mixture"),
        implementations=("jax-five_axes-capacity", "torch-five_axes"),
        meshes=("fsdp=2,expert=3",),
        profiles=("smoke",),
    ),
)

THREE_AXES = (  # H1, H2, H3
    MatrixRow(
        contracts=names("embedding_first"),
        implementations=THREE,
        meshes=("data=2,tensor=2,pipeline=2", "data=3,tensor=2,pipeline=2@shuffled"),
        dtypes=DTYPES,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("deep"),
        implementations=("jax-three_axes",),
        meshes=("data=2,tensor=4,pipeline=2",),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("large"),
        implementations=THREE,
        meshes=("data=4,tensor=2,pipeline=2",),
        dtypes=("float64", "bfloat16"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=names("large"),
        implementations=THREE,
        meshes=("pipeline=2,data=4,tensor=2@reversed", "tensor=4,pipeline=2"),
        profiles=FULL,
    ),
)

PAIRS = (  # of data, fsdp, expert, sequence and tensor; and all of them
    MatrixRow(
        contracts=names("mixture"),
        implementations=FIVE,
        meshes=("fsdp=2,expert=4", "expert=2,sequence=3", "fsdp=3,sequence=2", "data=3,expert=2,tensor=2"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=names("mixture"),
        implementations=FIVE,
        meshes=(
            "data=2,fsdp=3",
            "data=3,expert=2",
            "data=2,sequence=4",
            "data=2,tensor=4",
            "fsdp=2,tensor=4",
            "expert=4,tensor=2",
            "sequence=2,tensor=4",
            "fsdp=2,expert=3,tensor=2@shuffled",
            "data=3,fsdp=2,sequence=2",
            "fsdp=2,expert=2,sequence=2,tensor=2",
            "data=2,fsdp=2,expert=3",
            "data=2,fsdp=2,expert=2,tensor=2",
        ),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("mixture"),
        implementations=("jax-five_axes-capacity", "jax-five_axes-ragged"),
        meshes=("data=2,fsdp=2,expert=2,sequence=2,tensor=2",),
        profiles=CORE,
    ),
    MatrixRow(  # choices of the reference, replayed
        contracts=names("mixture"),
        implementations=FIVE,
        meshes=("fsdp=2,expert=4", "expert=2,sequence=3", "data=3,expert=2,tensor=2"),
        dtypes=("float32", "bfloat16"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("routed"),
        implementations=FIVE,
        meshes=("fsdp=2,expert=4", "expert=2,sequence=3"),
        dtypes=DTYPES,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("saved"),
        implementations=FIVE,
        meshes=("data=2,fsdp=2,tensor=2", "fsdp=2,expert=2,tensor=2"),
        profiles=FULL,
    ),
)

STAGES = (  # of pipeline and all others
    MatrixRow(
        contracts=names("staged_mixture"),
        implementations=STAGED,
        meshes=("expert=3,pipeline=2", "data=2,expert=2,tensor=2,pipeline=2"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=names("staged_mixture"),
        implementations=STAGED,
        meshes=("pipeline=4,expert=2", "data=3,expert=2,pipeline=2@shuffled"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("staged_mixture"),
        implementations=STAGED,
        meshes=("expert=3,pipeline=2", "data=2,expert=2,tensor=2,pipeline=2"),
        dtypes=("float32", "bfloat16"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("staged_context"),
        implementations=CONTEXT,
        meshes=("sequence=2,pipeline=3", "data=2,pipeline=2,sequence=2,tensor=2"),
        dtypes=("float32", "bfloat16"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("staged_mixture"),
        implementations=("torch-pipelined",),
        meshes=("expert=2,pipeline=2,tensor=4",),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("staged_context"),
        implementations=CONTEXT,
        meshes=("sequence=2,pipeline=3", "data=2,pipeline=2,sequence=2,tensor=2"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=names("staged_context"),
        implementations=CONTEXT,
        meshes=("pipeline=2,sequence=4", "data=3,pipeline=2,sequence=2@shuffled", "pipeline=4,tensor=2"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("staged_context"),
        implementations=("jax-pipelined_zero3", "torch-pipelined_zero1"),
        meshes=("fsdp=3,pipeline=2", "data=2,fsdp=2,pipeline=2,tensor=2"),
        profiles=CORE,
    ),
)

SAVED = (  # from stages into more or fewer stages
    MatrixRow(
        contracts=names("staged_saved"),
        implementations=STAGED,
        meshes=("expert=3,pipeline=2",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=names("staged_saved"),
        implementations=STAGED,
        meshes=("pipeline=4,expert=2", "expert=2,tensor=2,pipeline=3", "data=2,expert=2,tensor=2,pipeline=2"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("staged_context_saved"),
        implementations=("jax-pipelined_zero3", "torch-pipelined_zero1"),
        meshes=("fsdp=3,pipeline=2",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=names("staged_context_saved"),
        implementations=("jax-pipelined_zero3", "torch-pipelined_zero1"),
        meshes=("fsdp=2,pipeline=2", "fsdp=2,pipeline=3,tensor=2@reversed"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("staged_context_saved"),
        implementations=CONTEXT,
        meshes=("sequence=2,pipeline=3",),
        profiles=FULL,
    ),
)

HALF = (  # float16, which has more digits than bfloat16 and less range
    MatrixRow(
        contracts=names("mixture"),
        implementations=("jax-five_axes-capacity", "torch-five_axes"),
        meshes=("fsdp=2,expert=4",),
        dtypes=("float16",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=names("mixture"),
        implementations=FIVE,
        meshes=("expert=2,sequence=3",),
        dtypes=("float16",),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("embedding_first"),
        implementations=THREE,
        meshes=("data=2,tensor=2,pipeline=2",),
        dtypes=("float16",),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("staged_context"),
        implementations=CONTEXT,
        meshes=("sequence=2,pipeline=3",),
        dtypes=("float16",),
        profiles=FULL,
    ),
)

REFUSED = (
    MatrixRow(  # two key heads on four devices
        contracts=names("staged_context"),
        implementations=("jax-pipelined_context",),
        meshes=("pipeline=2,tensor=4",),
        profiles=CORE,
        expect="unsupported",
    ),
    MatrixRow(
        contracts=names("staged_mixture"),
        implementations=("jax-pipelined",),
        meshes=("expert=2,pipeline=2,tensor=4",),
        profiles=FULL,
        expect="unsupported",
    ),
)

MATRIX = SMOKE + THREE_AXES + PAIRS + STAGES + SAVED + HALF + REFUSED
