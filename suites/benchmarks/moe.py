"""Expert parallelism: a language model with two mixtures, routing prescribed."""

from __future__ import annotations

from . import series

MESH = "data=2,expert=2"


class MixtureLanguageModel(series.Step):
    contract, mesh = "moe/routed_model", MESH
    params = (["jax-capacity"], ["float32"])


class MixtureLanguageModelBytes(series.Bytes):
    contract, mesh = "moe/routed_model", MESH
    params = series.bytes_of(["jax-capacity"], MESH)
