"""The standing matrix of tensor parallelism: which contract runs where, on which mesh and in which dtype."""

from __future__ import annotations

from conformance.cases.suite import MatrixRow

EXPLICIT = ("jax-shard_map", "torch-collectives")
AUTOMATIC = ("jax-automatic", "torch-dtensor")
ALL = EXPLICIT + AUTOMATIC
DTYPES = ("float64", "float32", "bfloat16")
CORE = ("core", "full", "qualification")
FULL = ("full", "qualification")


def _names(*short: str) -> tuple[str, ...]:
    return tuple(f"tensor/{name}" for name in short)


LINEAR = _names("column_linear", "column_linear_sharded", "row_linear", "row_linear_sharded")
UNEVEN = _names("column_linear_uneven", "row_linear_uneven", "swiglu_uneven")
EXACT = _names("column_linear_exact", "row_linear_exact")
TWO_D = _names("linear_2d", "linear_submesh")
VOCABULARY = _names("vocabulary", "vocabulary_untied")
ATTENTION = _names("attention_mha_fused", "attention_gqa_headnorm", "attention_mqa")
FEEDFORWARD = _names("mlp", "swiglu")
LAYER = _names("layer", "layer_coincident")
MODEL = _names("language_model", "language_model_untied")

SMOKE = (
    MatrixRow(
        contracts=_names("language_model"),
        implementations=EXPLICIT,
        meshes=("data=2,tensor=4",),
        dtypes=("float64", "bfloat16"),
        profiles=("smoke",),
    ),
    MatrixRow(
        contracts=_names("mlp", "attention_gqa_headnorm", "vocabulary"),
        implementations=ALL,
        meshes=("data=2,tensor=4",),
        profiles=("smoke",),
    ),
    MatrixRow(
        contracts=_names("column_linear_uneven", "row_linear_exact"),
        implementations=EXPLICIT,
        meshes=("tensor=3",),
        profiles=("smoke",),
    ),
)

AXIS_TYPES = (
    MatrixRow(
        contracts=_names("mlp"),
        implementations=("jax-explicit",),
        meshes=("data=2,tensor=4", "data=3,tensor=2@shuffled"),
        dtypes=DTYPES,
        profiles=CORE,
    ),
    MatrixRow(  # bfloat16 ends the process: results/findings/xla-cpu-bfloat16-partly-manual
        contracts=_names("mlp"),
        implementations=("jax-mixed",),
        meshes=("data=2,tensor=4", "data=3,tensor=2@shuffled"),
        dtypes=("float64", "float32"),
        profiles=CORE,
    ),
)

EVERYWHERE = (  # each part on axis sizes 2, 3, 4, 8, on two axes of unequal size, permuted, and with an unused axis
    MatrixRow(
        contracts=LINEAR + FEEDFORWARD,
        implementations=ALL,
        meshes=("tensor=2", "tensor=3", "tensor=4", "tensor=8"),
        dtypes=DTYPES,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=LINEAR + FEEDFORWARD,
        implementations=ALL,
        meshes=("tensor=4", "data=2,tensor=4@shuffled"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=EXACT,
        implementations=ALL,
        meshes=("tensor=2", "tensor=3", "data=2,tensor=4"),
        dtypes=("float64", "float32"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=UNEVEN,
        implementations=EXPLICIT,
        meshes=("tensor=2", "tensor=3", "tensor=4", "data=2,tensor=4"),
        dtypes=("float64", "float32"),
        profiles=CORE,
    ),
    MatrixRow(contracts=UNEVEN, implementations=("jax-automatic",), meshes=("tensor=3", "tensor=4"), profiles=CORE),
    MatrixRow(
        contracts=TWO_D,
        implementations=ALL,
        meshes=("data=4,tensor=2", "data=2,tensor=4"),
        dtypes=DTYPES,
        profiles=CORE,
    ),
    MatrixRow(
        contracts=VOCABULARY + ATTENTION,
        implementations=ALL,
        meshes=("tensor=2", "tensor=4", "tensor=8", "data=2,tensor=4"),
        dtypes=DTYPES,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=VOCABULARY + ATTENTION, implementations=ALL, meshes=("data=2,tensor=4@reversed",), profiles=CORE
    ),
    MatrixRow(
        contracts=_names("vocabulary_wide"),
        implementations=ALL,
        meshes=("data=2,tensor=4",),
        dtypes=("float64", "float32"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("attention_heads_3", "vocabulary_untied"),
        implementations=ALL,
        meshes=("tensor=3",),
        profiles=CORE,
    ),
)

WHOLE = (
    MatrixRow(
        contracts=LAYER + MODEL,
        implementations=ALL,
        meshes=("tensor=4", "data=2,tensor=4", "data=4,tensor=2@shuffled", "sequence=2,tensor=2", "data=2,tensor=1"),
        dtypes=DTYPES,
        seeds=(0, 1, 2),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=LAYER + MODEL,
        implementations=ALL,
        meshes=("data=2,tensor=4",),
        dtypes=("float64", "bfloat16"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=LAYER + MODEL,
        implementations=EXPLICIT,
        meshes=("sequence=2,tensor=2", "data=4,tensor=2@shuffled"),
        dtypes=("float64", "float32"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("layer_coincident", "language_model_untied"),
        implementations=EXPLICIT,
        meshes=("data=3,tensor=2",),
        dtypes=("float64", "float32"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("language_model_text"),
        implementations=ALL,
        meshes=("data=2,tensor=4",),
        dtypes=DTYPES,
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("language_model_saved"),
        implementations=(*EXPLICIT, "jax-automatic"),
        meshes=("data=2,tensor=2",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("language_model_saved"),
        implementations=(*EXPLICIT, "jax-automatic"),
        meshes=("data=2,tensor=4", "tensor=4", "data=4,tensor=2@shuffled"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("layer_large"),
        implementations=EXPLICIT,
        meshes=("data=1,tensor=4",),
        dtypes=("float32", "bfloat16"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("layer_large"),
        implementations=AUTOMATIC,
        meshes=("data=1,tensor=4",),
        dtypes=("float32", "bfloat16"),
        profiles=FULL,
    ),
)

REFUSED = (  # refused with a clear sentence, never computed wrong: heads and rows that an axis does not divide
    MatrixRow(
        contracts=_names("attention_mha_fused"),
        implementations=EXPLICIT,
        meshes=("tensor=3",),
        profiles=CORE,
        expect="unsupported",
    ),
    MatrixRow(
        contracts=_names("layer"),
        implementations=EXPLICIT,
        meshes=("data=5,tensor=1",),
        profiles=CORE,
        expect="unsupported",
    ),
    # What torch itself cannot do; `shardproof run` prints torch's reason. These rows overrule the ones above.
    MatrixRow(
        contracts=_names("column_linear", "row_linear"),
        implementations=("torch-dtensor",),
        meshes=("data=2,tensor=4@shuffled",),
        profiles=CORE,
        expect="unsupported",
    ),
    MatrixRow(
        contracts=_names("row_linear_exact"),
        implementations=("torch-dtensor",),
        meshes=("tensor=3",),
        dtypes=("float64", "float32"),
        profiles=CORE,
        expect="unsupported",
    ),
)

HALF = (  # float16, which has more digits than bfloat16 and less range
    MatrixRow(
        contracts=_names("language_model"),
        implementations=EXPLICIT,
        meshes=("data=2,tensor=4",),
        dtypes=("float16",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=FEEDFORWARD + ATTENTION + LAYER + MODEL,
        implementations=ALL,
        meshes=("data=2,tensor=4",),
        dtypes=("float16",),
        profiles=FULL,
    ),
)

MATRIX = SMOKE + AXIS_TYPES + EVERYWHERE + WHOLE + HALF + REFUSED

MUTATED = (  # every collective of these is mutated: both explicit styles, two axes of unequal size
    MatrixRow(
        contracts=_names(
            "column_linear", "row_linear", "linear_2d", "swiglu", "attention_gqa_headnorm", "vocabulary", "layer"
        ),
        implementations=EXPLICIT,
        meshes=("data=2,tensor=4",),
    ),
)
