"""Tensor parallelism: the language model by explicit collectives, and by annotation."""

from __future__ import annotations

from . import series

MESH = "data=2,tensor=2"


class LanguageModel(series.Step):
    contract, mesh = "tensor/language_model", MESH
    params = (["jax-shard_map", "jax-automatic"], ["float32"])


class LanguageModelBytes(series.Bytes):
    contract, mesh = "tensor/language_model", MESH
    params = series.bytes_of(["jax-shard_map", "jax-automatic"], MESH)
