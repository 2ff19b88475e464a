"""Context parallelism: the language model over packed documents, round a ring."""

from __future__ import annotations

from . import series

MESH = "data=2,sequence=2"


class ContextLanguageModel(series.Step):
    contract, mesh = "sequence/context_language_model", MESH
    params = (["jax-ring"], ["float32"])


class ContextLanguageModelBytes(series.Bytes):
    contract, mesh = "sequence/context_language_model", MESH
    params = series.bytes_of(["jax-ring"], MESH)
