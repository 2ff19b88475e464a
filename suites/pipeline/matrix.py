"""The standing matrix of pipeline parallelism: which contract runs where, on which mesh and in which dtype."""

from __future__ import annotations

from conformance.cases.suite import MatrixRow

SCHEDULES = ("gpipe", "1f1b", "interleaved", "zb-h1", "zbv")
JAX = tuple(f"jax-{name}" for name in SCHEDULES)
TORCH = tuple(f"torch-{name}" for name in SCHEDULES)
EXPLICIT = JAX + TORCH
INTERLEAVED = ("jax-interleaved", "torch-interleaved")  # microbatches in rounds of as many as there are ranks
ANY_NUMBER = tuple(name for name in EXPLICIT if name not in INTERLEAVED)  # of microbatches on any number of ranks
SPLIT = ("torch-pipelining-interleaved-zb", "torch-pipelining-zbv", "torch-pipelining-dualpipev")  # backward in two
WHOLE = tuple(f"torch-pipelining-{name}" for name in ("gpipe", "1f1b", "interleaved", "looped-bfs"))
LIBRARY = WHOLE + SPLIT
DTYPES = ("float64", "float32", "bfloat16")
CORE = ("core", "full", "qualification")
FULL = ("full", "qualification")


def _names(*short: str) -> tuple[str, ...]:
    return tuple(f"pipeline/{name}" for name in short)


SMOKE = (
    MatrixRow(
        contracts=_names("language_model"),
        implementations=("jax-1f1b", "torch-1f1b"),
        meshes=("data=2,pipeline=4",),
        profiles=("smoke",),
    ),
    MatrixRow(
        contracts=_names("perceptron_skips"),
        implementations=("jax-zbv", "torch-zb-h1"),
        meshes=("pipeline=3",),
        profiles=("smoke",),
    ),
)

STAGES = (  # P1, P2, P3, P5
    MatrixRow(
        contracts=_names("perceptron", "convolution"),
        implementations=EXPLICIT,
        meshes=("pipeline=2", "pipeline=4"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("perceptron_guide"),
        implementations=("jax-gpipe", "jax-1f1b", "torch-gpipe", "torch-1f1b"),
        meshes=("pipeline=2", "pipeline=3", "pipeline=4"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("perceptron_skips", "language_model", "language_model_untied", "documents"),
        implementations=EXPLICIT,
        meshes=("pipeline=4",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("microbatches_2", "microbatches_8", "microbatches_12"),
        implementations=EXPLICIT,
        meshes=("pipeline=4",),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("microbatches_2", "microbatches_12"),
        implementations=("jax-1f1b", "jax-zb-h1", "torch-1f1b", "torch-zb-h1"),
        meshes=("pipeline=4",),
        profiles=CORE,
    ),
)

CROSSED = (  # P4, and pipeline x tensor
    MatrixRow(contracts=_names("replicas"), implementations=EXPLICIT, meshes=("data=2,pipeline=4",), profiles=CORE),
    MatrixRow(
        contracts=_names("language_model"),
        implementations=EXPLICIT,
        meshes=("data=2,pipeline=4", "pipeline=2,tensor=2", "pipeline=4,data=2@shuffled"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("language_model", "language_model_untied"),
        implementations=EXPLICIT,
        meshes=("data=2,pipeline=2,tensor=2", "pipeline=2", "pipeline=1,data=2"),
        dtypes=DTYPES,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("language_model", "language_model_untied"),
        implementations=ANY_NUMBER,
        meshes=("pipeline=3",),
        dtypes=DTYPES,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("microbatches_12"),
        implementations=INTERLEAVED,
        meshes=("pipeline=3", "pipeline=2", "data=2,pipeline=3@shuffled"),
        dtypes=DTYPES,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("language_model"),
        implementations=("jax-1f1b", "torch-1f1b", "jax-zbv", "torch-zbv"),
        meshes=("pipeline=4",),
        dtypes=("float32", "bfloat16"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("perceptron_skips", "convolution", "perceptron"),
        implementations=ANY_NUMBER,
        meshes=("data=2,pipeline=3",),
        dtypes=DTYPES,
        profiles=FULL,
    ),
)

RECIPES = (
    MatrixRow(
        contracts=_names("accumulation", "dropout", "dropout_recomputed"),
        implementations=("jax-1f1b", "torch-1f1b", "jax-zb-h1", "torch-zb-h1"),
        meshes=("data=2,pipeline=2",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("accumulation", "dropout", "dropout_recomputed"),
        implementations=EXPLICIT,
        meshes=("data=2,pipeline=4",),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("decay_groups"),
        implementations=("jax-1f1b", "jax-zbv", "torch-1f1b", "torch-zbv"),
        meshes=("data=2,pipeline=2",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("decay_groups"),
        implementations=EXPLICIT + LIBRARY[:2],
        meshes=("pipeline=4", "data=2,pipeline=2"),
        dtypes=("float64", "float32"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("policy_bfloat16"),
        implementations=EXPLICIT,
        meshes=("data=2,pipeline=2",),
        dtypes=("float32",),
        profiles=CORE,
    ),
)

SAVED = (  # with another number of stages to load into; on one axis alone, devices in another order or no stages
    MatrixRow(
        contracts=_names("saved"),
        implementations=("jax-1f1b", "torch-1f1b"),
        meshes=("data=2,pipeline=3",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("saved"),
        implementations=("jax-1f1b", "torch-1f1b"),
        meshes=("pipeline=3", "data=2,pipeline=2", "pipeline=3,tensor=2@shuffled"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("saved"),
        implementations=EXPLICIT,
        meshes=("data=2,pipeline=4",),
        profiles=FULL,
    ),
)

REFUSED = (
    MatrixRow(
        contracts=_names("refused"),
        implementations=(*EXPLICIT, "torch-pipelining-1f1b"),
        meshes=("pipeline=2",),
        profiles=CORE,
        expect="unsupported",
    ),
    MatrixRow(  # four microbatches on three ranks; eight stage units, ten stages
        contracts=_names("perceptron"),
        implementations=INTERLEAVED,
        meshes=("pipeline=3", "pipeline=5"),
        profiles=CORE,
        expect="unsupported",
    ),
)

PIPELINING = (  # torch.distributed.pipelining
    MatrixRow(
        contracts=_names("perceptron_skips", "convolution", "language_model"),
        implementations=tuple(name for name in LIBRARY if name != "torch-pipelining-dualpipev"),
        meshes=("pipeline=4",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("microbatches_8"),
        implementations=LIBRARY,
        meshes=("pipeline=4",),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("convolution", "language_model"),
        implementations=("torch-pipelining-dualpipev",),
        meshes=("pipeline=2",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("language_model", "language_model_untied", "documents", "dropout"),
        implementations=LIBRARY,
        meshes=("pipeline=2", "data=2,pipeline=2"),
        dtypes=("float64", "bfloat16"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("accumulation"),
        implementations=tuple(name for name in LIBRARY if name != "torch-pipelining-dualpipev"),
        meshes=("data=2,pipeline=2",),
        profiles=FULL,
    ),
    MatrixRow(  # not DualPipeV: of six devices it refuses all other layouts but two
        contracts=_names("saved"),
        implementations=tuple(name for name in LIBRARY if name != "torch-pipelining-dualpipev"),
        meshes=("data=3,pipeline=2",),
        profiles=FULL,
    ),
    MatrixRow(  # as many microbatches as stages
        contracts=_names("language_model"),
        implementations=("torch-pipelining-dualpipev",),
        meshes=("pipeline=4",),
        profiles=CORE,
        expect="unsupported",
    ),
    MatrixRow(
        contracts=_names("microbatches_2"),
        implementations=("torch-pipelining-1f1b",),
        meshes=("pipeline=4",),
        profiles=CORE,
        expect="unsupported",
    ),
    MatrixRow(  # torch detaches in place what leaves a stage; where the stage needs it for its own weights, that fails
        contracts=_names("perceptron_skips"),
        implementations=SPLIT,
        meshes=("pipeline=2",),
        profiles=CORE,
        expect="unsupported",
    ),
)

HALF = (  # float16, which has more digits than bfloat16 and less range
    MatrixRow(
        contracts=_names("language_model"),
        implementations=("jax-1f1b", "torch-1f1b"),
        meshes=("pipeline=4",),
        dtypes=("float16",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("language_model"),
        implementations=EXPLICIT,
        meshes=("pipeline=4",),
        dtypes=("float16",),
        profiles=FULL,
    ),
)

MATRIX = SMOKE + STAGES + CROSSED + RECIPES + SAVED + HALF + REFUSED + PIPELINING

MUTATED = (
    MatrixRow(  # every microbatch has valid rows in every step: what none has, nobody misses
        contracts=_names("perceptron_skips"),
        implementations=("jax-1f1b", "jax-zbv", "torch-1f1b"),
        meshes=("data=2,pipeline=3",),
    ),
)
