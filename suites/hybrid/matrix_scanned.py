"""The standing matrix of programs that scan over layers: what `shardproof scale` measures at production size."""

from __future__ import annotations

from conformance.cases.suite import MatrixRow
from suites.hybrid.matrix import CORE, DTYPES, FULL, names

SCANNED = (
    MatrixRow(
        contracts=names("scanned"),
        implementations=("jax-scanned", "torch-fsdp2_tensor"),
        meshes=("fsdp=2,tensor=2",),
        dtypes=DTYPES,
        profiles=CORE,
    ),
    MatrixRow(
        contracts=names("scanned"),
        implementations=("torch-fsdp2_tensor",),
        meshes=("fsdp=4,tensor=2", "data=2,fsdp=2", "data=2,fsdp=2,tensor=2"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("scanned"),
        implementations=("jax-scanned",),
        meshes=("data=2,fsdp=2,sequence=2,tensor=2", "fsdp=3,tensor=4@reversed", "data=2,fsdp=4@shuffled"),
        dtypes=("float64", "bfloat16"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("scanned_slices"),
        implementations=("jax-scanned",),
        meshes=("data=2,fsdp=2,tensor=2",),
        dtypes=("float64", "bfloat16"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=names("scanned_stages"),
        implementations=("jax-staged-1f1b",),
        meshes=("pipeline=2,fsdp=2,tensor=2",),
        dtypes=("float64", "bfloat16"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=names("scanned_stages"),
        implementations=("jax-staged-1f1b", "jax-staged-gpipe"),
        meshes=("pipeline=3,data=2", "pipeline=2,data=2,sequence=2"),
        profiles=FULL,
    ),
    MatrixRow(
        contracts=names("scanned_mixture"),
        implementations=("jax-scanned_mixture",),
        meshes=("fsdp=2,expert=2,tensor=2",),
        dtypes=("float64", "bfloat16"),
        profiles=CORE,
    ),
    MatrixRow(
        contracts=names("scanned_mixture"),
        implementations=("jax-scanned_mixture",),
        meshes=("expert=4", "data=2,expert=3", "fsdp=2,expert=2,tensor=2"),
        dtypes=DTYPES,
        profiles=FULL,
    ),
)
