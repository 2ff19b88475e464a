"""The standing matrix of collectives: which contract runs where, on which mesh and in which dtype."""

from __future__ import annotations

from conformance.cases.case import DTYPES
from conformance.cases.suite import MatrixRow

CORE = ("core", "full", "qualification")
FULL = ("full", "qualification")
WIDE_AND_NARROW = ("float64", "bfloat16")
NATIVE = ("jax-shard_map", "torch-collectives")
FUNCTIONAL = ("torch-functional",)
RING, TREE, HALVING = ("jax-ring", "torch-ring"), ("jax-tree", "torch-tree"), ("jax-halving", "torch-halving")
HIERARCHICAL, DIRECT = ("jax-hierarchical", "torch-hierarchical"), ("jax-direct", "torch-direct")
PER_AXIS, PICKED = ("jax-per_axis", "torch-per_axis"), ("jax-picked", "torch-picked")


def _names(*short: str) -> tuple[str, ...]:
    return tuple(f"collectives/{name}" for name in short)


def _each(names: tuple[str, ...], suffix: str) -> tuple[str, ...]:
    return tuple(f"{name}_{suffix}" for name in names)


SUMS_AND_GATHERS = _names("all_reduce_sum", "all_gather", "reduce_scatter")
LINEAR = SUMS_AND_GATHERS + _names("all_to_all", "permute_ring", "broadcast")
PERMUTES = _names("permute_open", "permute_reverse")
EXTREMES = _names("all_reduce_max", "all_reduce_min")
PLAIN = LINEAR + PERMUTES + EXTREMES + _names("all_reduce_mean")
DIFFERENTIATED = SUMS_AND_GATHERS + _names("all_to_all", "permute_ring")  # by torch itself
UNEVEN = tuple(name for name in _each(LINEAR, "uneven") if "permute" not in name) + _names("all_reduce_max_uneven")

SMOKE = (
    MatrixRow(
        contracts=_names("all_reduce_sum"),
        implementations=("jax-shard_map", "torch-collectives"),
        meshes=("tensor=3",),
        profiles=("smoke",),
    ),
    MatrixRow(
        contracts=_names("reduce_scatter"),
        implementations=RING,
        meshes=("data=2,tensor=2",),
        dtypes=("bfloat16",),
        profiles=("smoke",),
    ),
)

COLLECTIVES = (  # every collective, on every axis of one, two and three, in every dtype
    MatrixRow(contracts=PLAIN, implementations=NATIVE, meshes=("data=2,tensor=3@shuffled",), profiles=CORE),
    MatrixRow(contracts=PLAIN, implementations=NATIVE, meshes=("tensor=4",), dtypes=DTYPES[1:], profiles=CORE),
    MatrixRow(
        contracts=PLAIN,
        implementations=NATIVE,
        meshes=(
            "tensor=2",
            "tensor=3",
            "tensor=8",
            "tensor=2,data=2@reversed",
            "data=2,tensor=2,pipeline=2",
            "tensor=2,data=3,pipeline=2@shuffled",
            "data=2,pipeline=2,tensor=3@reversed",
        ),
        dtypes=WIDE_AND_NARROW,
        profiles=FULL,
    ),
    MatrixRow(contracts=UNEVEN, implementations=NATIVE, meshes=("tensor=3", "tensor=4"), profiles=CORE),
    MatrixRow(
        contracts=UNEVEN,
        implementations=NATIVE,
        meshes=("tensor=8", "data=2,tensor=3@reversed"),
        dtypes=WIDE_AND_NARROW,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_each(LINEAR, "strided") + _each(LINEAR, "int32"),
        implementations=NATIVE,
        meshes=("data=2,tensor=2",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_each(LINEAR, "strided") + _each(LINEAR, "int32"),
        implementations=NATIVE,
        meshes=("tensor=4@reversed", "data=2,tensor=3"),
        dtypes=WIDE_AND_NARROW,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_each(LINEAR, "2d"), implementations=NATIVE, meshes=("data=3,tensor=2@shuffled",), profiles=CORE
    ),
    MatrixRow(
        contracts=_each(LINEAR, "2d"),
        implementations=NATIVE,
        meshes=("data=4", "data=2,tensor=4", "data=2,pipeline=2,tensor=2@reversed"),
        dtypes=WIDE_AND_NARROW,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_each(LINEAR, "3d"), implementations=NATIVE, meshes=("data=2,tensor=2,pipeline=2",), profiles=CORE
    ),
    MatrixRow(
        contracts=_each(LINEAR, "3d"),
        implementations=NATIVE,
        meshes=("pipeline=3", "pipeline=2,tensor=3,data=2@reversed"),
        dtypes=WIDE_AND_NARROW,
        profiles=FULL,
    ),
)

PEERS = (  # torch's own gradients, of those collectives that it has one for
    MatrixRow(
        contracts=DIFFERENTIATED + _names("all_reduce_mean", "permute_reverse"),
        implementations=FUNCTIONAL,
        meshes=("data=2,tensor=3@shuffled",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=DIFFERENTIATED + _each(SUMS_AND_GATHERS, "uneven"),
        implementations=FUNCTIONAL,
        meshes=("tensor=4",),
        dtypes=("bfloat16",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_each(DIFFERENTIATED, "strided") + _each(DIFFERENTIATED, "int32") + _each(DIFFERENTIATED, "2d"),
        implementations=FUNCTIONAL,
        meshes=("data=2,tensor=2",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=DIFFERENTIATED + _each(DIFFERENTIATED, "strided") + _each(SUMS_AND_GATHERS, "uneven"),
        implementations=FUNCTIONAL,
        meshes=("tensor=3", "tensor=8", "data=2,tensor=2,pipeline=2@reversed"),
        dtypes=WIDE_AND_NARROW,
        profiles=FULL,
    ),
)

BY_ALGORITHM = (  # every algorithm on 2, 3, 4 and 8 devices, and on several axes one after the other
    MatrixRow(
        contracts=SUMS_AND_GATHERS,
        implementations=RING + TREE + HALVING + DIRECT,
        meshes=("tensor=3", "tensor=4"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=SUMS_AND_GATHERS,
        implementations=HIERARCHICAL,
        meshes=("tensor=4", "data=2,tensor=4@shuffled"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_each(SUMS_AND_GATHERS, "2d"),
        implementations=PER_AXIS + PICKED,
        meshes=("data=3,tensor=2@reversed",),
        dtypes=("float64", "bfloat16"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=_each(SUMS_AND_GATHERS, "uneven"),
        implementations=RING + TREE + HALVING + DIRECT,
        meshes=("tensor=3",),
        dtypes=("float32",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=SUMS_AND_GATHERS + _each(SUMS_AND_GATHERS, "uneven"),
        implementations=RING + TREE + HALVING + DIRECT,
        meshes=("tensor=2", "tensor=3", "tensor=6", "tensor=8", "data=2,tensor=4@shuffled"),
        dtypes=WIDE_AND_NARROW,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=SUMS_AND_GATHERS + _each(SUMS_AND_GATHERS, "uneven"),
        implementations=HIERARCHICAL,
        meshes=("tensor=6", "tensor=8", "data=2,tensor=4@shuffled"),
        dtypes=WIDE_AND_NARROW,
        profiles=FULL,
    ),
    MatrixRow(
        contracts=_each(SUMS_AND_GATHERS, "2d") + _each(SUMS_AND_GATHERS, "3d"),
        implementations=RING + TREE + HALVING + DIRECT + PER_AXIS + PICKED,
        meshes=("data=3,tensor=2,pipeline=2@shuffled", "tensor=4,data=2"),
        dtypes=WIDE_AND_NARROW,
        profiles=FULL,
    ),
)

ONE_BY_ONE = ("jax-one_by_one", "torch-one_by_one")
COMBINED = ("jax-bucketed", "torch-bucketed", "jax-overlapped", "torch-overlapped")
GRADIENTS = _names("gradients", "gradients_accumulated", "gradients_bfloat16_reduction")
COMBINING = (  # gradients in buckets, after the backward pass and inside it
    MatrixRow(
        contracts=_names("gradients_exact"),
        implementations=ONE_BY_ONE + COMBINED,
        meshes=("data=3", "data=2,tensor=2"),
        dtypes=("float64", "float32"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=GRADIENTS[:2], implementations=COMBINED, meshes=("data=2,fsdp=2", "data=2,tensor=2"), profiles=CORE
    ),
    MatrixRow(
        contracts=GRADIENTS[2:],
        implementations=COMBINED,
        meshes=("data=4@reversed",),
        dtypes=("bfloat16",),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=GRADIENTS,
        implementations=ONE_BY_ONE + COMBINED,
        meshes=("data=2", "data=8", "data=2,fsdp=4@shuffled", "data=4,tensor=2"),
        dtypes=WIDE_AND_NARROW,
        profiles=FULL,
    ),
)

REFUSED = (  # with a sentence, never computed wrong
    MatrixRow(
        contracts=SUMS_AND_GATHERS[:1],
        implementations=HIERARCHICAL,
        meshes=("tensor=3",),
        profiles=CORE,
        expect="unsupported",
    ),
    MatrixRow(
        contracts=_names("permute_ring_uneven"),
        implementations=NATIVE,
        meshes=("tensor=3",),
        profiles=CORE,
        expect="unsupported",
    ),
    MatrixRow(
        contracts=_names("all_reduce_max", "permute_open", "broadcast"),
        implementations=FUNCTIONAL,
        meshes=("tensor=4",),
        profiles=CORE,
        expect="unsupported",
    ),
)

MATRIX = SMOKE + COLLECTIVES + PEERS + BY_ALGORITHM + COMBINING + REFUSED

MUTATED = (  # every collective of these is mutated, and every round of the schedules of algorithms
    MatrixRow(contracts=LINEAR + EXTREMES[:1], implementations=NATIVE, meshes=("data=2,tensor=4",)),
    MatrixRow(
        contracts=_names("all_reduce_sum"),
        implementations=("jax-ring", "torch-tree", "jax-halving", "torch-hierarchical", "torch-direct"),
        meshes=("data=2,tensor=4",),
    ),
    MatrixRow(
        contracts=_names("all_gather", "reduce_scatter"),
        implementations=("torch-ring", "jax-tree", "torch-halving"),
        meshes=("data=2,tensor=4",),
    ),
)
