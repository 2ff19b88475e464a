"""Policies of memory: the language model with every layer computed again in the backward pass."""

from __future__ import annotations

from . import series

MESH = "data=2,tensor=2"


class RecomputedLanguageModel(series.Step):
    contract, mesh = "memory/layer", MESH
    params = (["jax-shard_map"], ["float32"])


class RecomputedLanguageModelBytes(series.Bytes):
    contract, mesh = "memory/layer", MESH
    params = series.bytes_of(["jax-shard_map"], MESH)
