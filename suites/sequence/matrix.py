"""The standing matrix of sequence and context parallelism: which contract runs where, and in which dtype."""

from __future__ import annotations

from conformance.cases.suite import MatrixRow

SEQUENCE = ("jax-shard_map", "torch-collectives")
RING_PRODUCTS = ("jax-ring_matmul", "torch-ring_matmul")
RINGS = ("jax-ring", "jax-zigzag", "torch-ring", "torch-zigzag")
ULYSSES = ("jax-ulysses", "torch-ulysses")
CONTEXT = RINGS + ULYSSES
DTYPES = ("float64", "float32", "bfloat16")
NARROW = ("float32", "bfloat16")
CORE = ("core", "full", "qualification")
FULL = ("full", "qualification")
FLAT, CUBE = "data=2,tensor=4", "data=2,tensor=2,sequence=2"


def _names(*short: str) -> tuple[str, ...]:
    return tuple(f"sequence/{name}" for name in short)


LINEAR = _names("column_linear", "row_linear")
EXACT = _names("column_linear_exact", "row_linear_exact")
UNEVEN = _names("column_linear_uneven", "row_linear_uneven", "swiglu_uneven")
PARTS = LINEAR + _names(
    "mlp", "swiglu", "attention_mha_fused", "attention_gqa_headnorm", "attention_mqa", "vocabulary", "vocabulary_untied"
)
WHOLE = _names(
    "layer", "layer_coincident", "layer_dropout", "layer_recomputed", "language_model", "language_model_untied"
)
ATTENTION = _names(
    "attention",
    "attention_uneven",
    "attention_documents",
    "attention_bidirectional",
    "attention_one_key_head",
    "attention_wide",
    "attention_coincident",
)
MODELS = _names(
    "context_layer", "context_layer_recomputed", "context_language_model", "context_language_model_sinusoidal"
)

SMOKE = (
    MatrixRow(
        contracts=_names("context_language_model"),
        implementations=("jax-ring", "torch-ring"),
        meshes=(CUBE,),
        profiles=("smoke",),
    ),
    MatrixRow(contracts=_names("layer"), implementations=SEQUENCE, meshes=(FLAT,), profiles=("smoke",)),
    MatrixRow(
        contracts=_names("attention_documents"),
        implementations=("jax-ulysses",),
        meshes=("sequence=4",),
        profiles=("smoke",),
    ),
)

TOKENS_OVER_TENSOR = (  # sequence parallelism; also what the axis does not divide, and permuted devices
    MatrixRow(contracts=PARTS, implementations=SEQUENCE, meshes=("data=2,tensor=4@shuffled",), profiles=CORE),
    MatrixRow(contracts=PARTS, implementations=SEQUENCE, meshes=("tensor=2", "tensor=4"), dtypes=DTYPES, profiles=FULL),
    MatrixRow(contracts=UNEVEN + EXACT, implementations=SEQUENCE, meshes=("tensor=3",), profiles=CORE),
    MatrixRow(
        contracts=UNEVEN + EXACT, implementations=SEQUENCE, meshes=(FLAT,), dtypes=("float64", "float32"), profiles=FULL
    ),
    MatrixRow(contracts=_names("mlp_adapter"), implementations=SEQUENCE, meshes=(FLAT, "tensor=3"), profiles=CORE),
    MatrixRow(contracts=WHOLE, implementations=SEQUENCE, meshes=(FLAT,), dtypes=("float64", "bfloat16"), profiles=CORE),
    MatrixRow(
        contracts=WHOLE,
        implementations=SEQUENCE,
        meshes=("tensor=2,data=2", "sequence=2,tensor=2@reversed"),
        dtypes=DTYPES,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("column_linear", "mlp", "vocabulary_untied"),
        implementations=RING_PRODUCTS,
        meshes=("tensor=3",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("column_linear", "attention_mha_fused", "swiglu", "layer", "language_model"),
        implementations=RING_PRODUCTS,
        meshes=(FLAT,),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("column_linear", "attention_mha_fused", "swiglu", "layer", "language_model"),
        implementations=RING_PRODUCTS,
        meshes=(FLAT, "tensor=4@reversed"),
        dtypes=NARROW,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("mlp", "attention_gqa_headnorm", "layer", "language_model"),
        implementations=("torch-dtensor",),
        meshes=(FLAT,),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("mlp", "attention_gqa_headnorm", "layer", "language_model"),
        implementations=("torch-dtensor",),
        meshes=(FLAT, "tensor=2,data=2"),
        dtypes=NARROW,
        profiles=FULL,
    ),
)

ROWS_OVER_SEQUENCE = (  # context parallelism, alone and with sequence parallelism inside
    MatrixRow(contracts=ATTENTION, implementations=CONTEXT, meshes=("sequence=4",), profiles=CORE),
    MatrixRow(contracts=ATTENTION, implementations=CONTEXT, meshes=(CUBE,), dtypes=NARROW, profiles=FULL),
    MatrixRow(contracts=_names("attention_uneven"), implementations=CONTEXT, meshes=("sequence=3",), profiles=CORE),
    MatrixRow(
        contracts=_names("attention"),
        implementations=CONTEXT,
        meshes=("sequence=8", "sequence=2,tensor=2,data=2@shuffled"),
        profiles=FULL,
    ),
    MatrixRow(contracts=MODELS, implementations=CONTEXT, meshes=(CUBE,), profiles=CORE),
    MatrixRow(contracts=MODELS, implementations=CONTEXT, meshes=(CUBE,), dtypes=NARROW, profiles=FULL),
    MatrixRow(
        contracts=MODELS,
        implementations=CONTEXT,
        meshes=("tensor=2,sequence=2,data=2@reversed", "data=2,sequence=2"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("attention", "attention_documents", "context_layer", "context_language_model"),
        implementations=("jax-automatic",),
        meshes=(CUBE,),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("attention", "attention_documents", "context_layer", "context_language_model"),
        implementations=("jax-automatic",),
        meshes=(CUBE, "sequence=4"),
        dtypes=NARROW,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("attention_bidirectional"),
        implementations=("torch-context_parallel",),
        meshes=("sequence=2", "sequence=4"),
        profiles=CORE,
    ),
)

NARROW_SUMS = (  # gradients that cancel over the shards of the tokens, and narrow dtypes of every way round the row
    MatrixRow(
        contracts=_names("opposed"),
        implementations=SEQUENCE,
        meshes=("tensor=4", "data=2,tensor=4"),
        dtypes=("bfloat16",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("opposed", "opposed_queries"),
        implementations=("jax-ring", "torch-ring", *ULYSSES),
        meshes=("sequence=4",),
        dtypes=("bfloat16",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("attention_documents", "context_language_model"),
        implementations=CONTEXT,
        meshes=(CUBE,),
        dtypes=NARROW,
        profiles=CORE,
    ),
)

HALF = (  # float16, which has more digits than bfloat16 and less range
    MatrixRow(
        contracts=_names("context_language_model"),
        implementations=("jax-ring", "torch-ring"),
        meshes=(CUBE,),
        dtypes=("float16",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("attention", "attention_documents", "context_language_model"),
        implementations=CONTEXT,
        meshes=(CUBE,),
        dtypes=("float16",),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("layer", "language_model"),
        implementations=SEQUENCE,
        meshes=(FLAT,),
        dtypes=("float16",),
        profiles=FULL,
    ),
)

REFUSED = (  # refused with a clear sentence, never computed wrong
    MatrixRow(
        contracts=_names("attention_uneven"),
        implementations=ULYSSES,
        meshes=("tensor=2,sequence=4",),
        profiles=CORE,
        expect="unsupported",
    ),
    MatrixRow(
        contracts=_names("attention_uneven"),
        implementations=("jax-automatic",),
        meshes=("sequence=4",),
        profiles=CORE,
        expect="unsupported",
    ),
    MatrixRow(
        contracts=_names("attention"),
        implementations=("torch-context_parallel",),
        meshes=("sequence=4",),
        profiles=CORE,
        expect="unsupported",
    ),
)

MATRIX = SMOKE + TOKENS_OVER_TENSOR + ROWS_OVER_SEQUENCE + NARROW_SUMS + HALF + REFUSED

MUTATED = (  # every collective of these is mutated, in both frameworks
    MatrixRow(contracts=_names("layer_dropout"), implementations=SEQUENCE, meshes=("data=2,tensor=2",)),
    MatrixRow(
        contracts=_names("attention_documents"),
        implementations=("jax-ring", "torch-ring"),
        meshes=("data=2,sequence=3",),
    ),
    MatrixRow(contracts=_names("attention_one_key_head"), implementations=ULYSSES, meshes=("tensor=2,sequence=2",)),
)
