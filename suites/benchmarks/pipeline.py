"""Pipeline parallelism: the language model in four stages, one forward and one backward in turn."""

from __future__ import annotations

from . import series

MESH = "pipeline=4"


class PipelinedLanguageModel(series.PipelinedStep):
    contract, mesh = "pipeline/language_model", MESH
    params = (["jax-1f1b", "torch-1f1b"], ["float32"])


class PipelinedLanguageModelBytes(series.Bytes):
    contract, mesh = "pipeline/language_model", MESH
    params = series.bytes_of(["jax-1f1b"], MESH)
