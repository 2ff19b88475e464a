"""The standing matrix of data parallelism and sharded state: which contract runs where, on which mesh, in which dtype.

On a mesh with both axes parameters, gradients or optimizer slots are sharded over `fsdp` and replicated over `data`:
hybrid sharding (HSDP). The rows of a batch are sharded over both.
"""

from __future__ import annotations

from conformance.cases.suite import MatrixRow

ZERO = ("jax-zero1", "jax-zero2", "jax-zero3", "torch-zero1", "torch-zero2", "torch-zero3")
PLAIN = ("jax-data_parallel", "torch-data_parallel")
OTHERS = ("jax-automatic", "torch-fsdp2")
ALL = PLAIN + ZERO + OTHERS
DTYPES = ("float64", "float32", "bfloat16")
CORE = ("core", "full", "qualification")
FULL = ("full", "qualification")
HYBRID = "data=2,fsdp=4"


def _names(*short: str) -> tuple[str, ...]:
    return tuple(f"data/{name}" for name in short)


MODELS = _names("language_model", "language_model_sgd", "muon", "lamb", "decay_groups")
LOSSES = _names("ragged", "weighted")
EXACT = _names("exact", "cancelling")
BY_3 = _names("accumulation_3", "accumulation_uneven")
BY_8 = _names("accumulation_8")
BY_2 = _names("accumulation_2")
POLICIES = _names(
    "policy_bfloat16_parameters",
    "policy_bfloat16_compute",
    "policy_master",
    "policy_small_updates",
    "policy_bfloat16_reduction",
)
RANDOM = _names("dropout", "dropout_recomputed")

SMOKE = (
    MatrixRow(
        contracts=_names("language_model"),
        implementations=("jax-zero3", "torch-zero3"),
        meshes=(HYBRID,),
        profiles=("smoke",),
    ),
    MatrixRow(
        contracts=_names("cancelling"),
        implementations=("jax-zero2", "torch-zero1"),
        meshes=("data=2,fsdp=2",),
        dtypes=("float32",),
        profiles=("smoke",),
    ),
)

DATA = (  # D1: every way to cut the rows, a shard without valid tokens among them
    MatrixRow(contracts=LOSSES, implementations=PLAIN, meshes=("data=2", "data=3", "data=8"), profiles=CORE),
    MatrixRow(contracts=LOSSES, implementations=ALL, meshes=("fsdp=3", HYBRID), dtypes=DTYPES, profiles=FULL),
    MatrixRow(contracts=_names("contrastive"), implementations=ALL, meshes=(HYBRID,), profiles=CORE),
    MatrixRow(
        contracts=_names("contrastive"),
        implementations=("jax-zero3", "torch-zero3"),
        meshes=("data=2,fsdp=3",),
        dtypes=("float32", "bfloat16"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("contrastive_skewed"), implementations=PLAIN, meshes=("data=3", "data=4,fsdp=2"), profiles=CORE
    ),
    MatrixRow(
        contracts=_names("contrastive", "contrastive_skewed"),
        implementations=ALL,
        meshes=("fsdp=3", "fsdp=4,data=2@shuffled", HYBRID),
        dtypes=DTYPES,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=EXACT,
        implementations=ALL,
        meshes=("data=2,fsdp=2", "fsdp=4"),
        dtypes=("float64", "float32"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("exact"), implementations=("jax-zero3", "torch-zero3"), meshes=("fsdp=3",), profiles=CORE
    ),
    MatrixRow(
        contracts=_names("cancelling", "cancelling_bfloat16"),
        implementations=("jax-data_parallel", "torch-data_parallel", "jax-zero3", "torch-zero3"),
        meshes=("data=2,fsdp=2",),
        dtypes=("float32",),
        profiles=CORE,
    ),
)

NARROW = (  # rows and slices whose gradients cancel; a rank or a slice holds a quarter of them at most
    MatrixRow(
        contracts=_names("opposed"),
        implementations=(*PLAIN, "jax-zero3", "torch-zero2", "torch-fsdp2"),
        meshes=("data=2,fsdp=2",),
        dtypes=("bfloat16",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("opposed_slices"),
        implementations=("jax-zero1", "torch-zero1"),
        meshes=("fsdp=2",),
        dtypes=("bfloat16",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("opposed"),
        implementations=ALL,
        meshes=("fsdp=4", HYBRID),
        dtypes=("bfloat16",),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("opposed_slices"),  # in four slices
        implementations=ALL,
        meshes=("fsdp=2",),
        dtypes=("bfloat16",),
        profiles=FULL,
    ),
)

STATE = (  # D2, D4, D6: sharded state, clipping and optimizers, sizes that no axis divides
    MatrixRow(contracts=MODELS, implementations=ALL, meshes=(HYBRID,), profiles=CORE),
    MatrixRow(
        contracts=_names("language_model"),
        implementations=ZERO + OTHERS,
        meshes=(HYBRID,),
        dtypes=("float32", "bfloat16"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=MODELS,
        implementations=ALL,
        meshes=("fsdp=8", "data=1,fsdp=3"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=MODELS,
        implementations=ALL,
        meshes=(HYBRID,),
        dtypes=("float32", "bfloat16"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_names("language_model_sgd", "muon"),
        implementations=ZERO,
        meshes=("data=2,fsdp=2,tensor=2", "data=4,fsdp=2@shuffled"),
        profiles=CORE,
    ),
    MatrixRow(  # two key heads over four tensor ranks: each is stored twice, and counts once in a norm
        contracts=_names("lamb"),
        implementations=("jax-zero1", "jax-zero3", "torch-zero2", "torch-zero3"),
        meshes=("fsdp=2,tensor=4",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("lamb", "decay_groups"),
        implementations=("jax-zero2", "torch-zero3"),
        meshes=(HYBRID,),
        dtypes=("float32", "bfloat16"),
        profiles=CORE,
    ),
)

SLICES = (  # D3: never as many slices as an axis has devices, or a factor of one would pass for one of the other
    MatrixRow(
        contracts=BY_3 + BY_8, implementations=("jax-zero3", "torch-zero2"), meshes=("data=2", "fsdp=2"), profiles=CORE
    ),
    MatrixRow(contracts=BY_2, implementations=("jax-zero3", "torch-zero2"), meshes=("fsdp=3",), profiles=CORE),
    MatrixRow(
        contracts=BY_3,
        implementations=("torch-fsdp2", "jax-zero1"),
        meshes=("data=2,fsdp=2",),
        profiles=CORE,
    ),
    MatrixRow(contracts=BY_2 + BY_8, implementations=ALL, meshes=("fsdp=3",), profiles=FULL),
    MatrixRow(contracts=BY_3 + BY_8, implementations=ALL, meshes=("data=2",), profiles=FULL),
)

PRECISION = (  # D5: float64 shows the logic, in float32 the policy is applied
    MatrixRow(
        contracts=POLICIES,
        implementations=("jax-zero3", "jax-data_parallel", "torch-zero3", "torch-data_parallel"),
        meshes=("data=2,fsdp=2",),
        dtypes=("float32",),
        profiles=CORE,
    ),
    MatrixRow(contracts=POLICIES, implementations=ALL, meshes=(HYBRID,), dtypes=("float64", "float32"), profiles=FULL),
)

CHANCE = (  # D7
    MatrixRow(
        contracts=RANDOM,
        implementations=("jax-data_parallel", "jax-zero3", "torch-data_parallel", "torch-zero3"),
        meshes=("data=2,tensor=2", "data=3,fsdp=2"),
        profiles=CORE,
    ),
    MatrixRow(contracts=RANDOM, implementations=PLAIN + ZERO, meshes=(HYBRID,), dtypes=DTYPES, profiles=FULL),
)

EVALUATED = (
    MatrixRow(
        contracts=_names("evaluation"),
        implementations=(*PLAIN, "jax-zero3", "torch-zero3", "torch-fsdp2"),
        meshes=("data=2,fsdp=2",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("evaluation"),
        implementations=(*PLAIN, *ZERO, "torch-fsdp2"),
        meshes=(HYBRID, "data=3"),
        dtypes=("float64", "float32"),
        profiles=FULL,
    ),
)

SAVED = (  # D8
    MatrixRow(
        contracts=_names("checkpoint"),
        implementations=("jax-data_parallel", "jax-zero3", "torch-data_parallel", "torch-zero3"),
        meshes=(HYBRID,),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("checkpoint"),
        implementations=ALL,
        meshes=(HYBRID,),
        profiles=FULL,
    ),
    MatrixRow(  # not FSDP2, which has but two layouts of four devices: it refuses permuted ones
        contracts=_names("checkpoint"),
        implementations=(*PLAIN, *ZERO, "jax-automatic"),
        meshes=("fsdp=4",),
        profiles=FULL,
    ),
)

HALF = (  # float16, which has more digits than bfloat16 and less range
    MatrixRow(
        contracts=_names("language_model"),
        implementations=("jax-zero3", "torch-zero3"),
        meshes=(HYBRID,),
        dtypes=("float16",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("language_model", "muon", "decay_groups"),
        implementations=ALL,
        meshes=(HYBRID,),
        dtypes=("float16",),
        profiles=FULL,
    ),
)

AHEAD = (  # the same as without, by the same collectives, which begin earlier
    MatrixRow(
        contracts=_names("language_model_sgd"),
        implementations=("torch-fsdp2-prefetch",),
        meshes=("data=2,fsdp=3", "fsdp=4"),
        dtypes=DTYPES,
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_names("opposed"),
        implementations=("torch-fsdp2-prefetch",),
        meshes=("data=2,fsdp=2",),
        dtypes=("bfloat16",),
        profiles=CORE,
    ),
)

REFUSED = (  # FSDP2 keeps gradients in the dtype of what it shards; this row overrules the one above
    MatrixRow(
        contracts=_names("policy_bfloat16_parameters"),
        implementations=("torch-fsdp2",),
        meshes=(HYBRID,),
        dtypes=("float32",),
        profiles=CORE,
        expect="unsupported",
    ),
)

MATRIX = SMOKE + DATA + NARROW + STATE + SLICES + PRECISION + CHANCE + EVALUATED + SAVED + HALF + AHEAD + REFUSED

MUTATED = (  # every collective of these is mutated
    MatrixRow(contracts=_names("exact"), implementations=ZERO, meshes=("data=2,fsdp=3",)),
    MatrixRow(contracts=_names("ragged"), implementations=("torch-zero3",), meshes=("data=2,fsdp=3",)),
)
