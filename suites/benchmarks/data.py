"""Sharded state: the language model over data and fsdp, ZeRO-3 by hand and FSDP2."""

from __future__ import annotations

from . import series

MESH = "data=2,fsdp=2"


class ShardedLanguageModel(series.Step):
    contract, mesh = "data/language_model", MESH
    params = (["jax-zero3", "torch-fsdp2"], ["float32"])


class ShardedLanguageModelBytes(series.Bytes):
    contract, mesh = "data/language_model", MESH
    params = series.bytes_of(["jax-zero3"], MESH)
