"""Three axes at once: the large transformer, shrunk, by GPipe with selective checkpointing."""

from __future__ import annotations

from . import series

MESH = "data=2,tensor=2,pipeline=2"


class LargeTransformer(series.PipelinedStep):
    contract, mesh = "hybrid/large", MESH
    params = (["jax-three_axes"], ["bfloat16"])


class LargeTransformerBytes(series.Bytes):
    contract, mesh, dtype = "hybrid/large", MESH, "bfloat16"
    params = series.bytes_of(["jax-three_axes"], MESH)
