"""Tensor parallelism: the language model on data=2,tensor=4, in both frameworks and both styles."""

from __future__ import annotations

from suites.benchmarks import judged


class LanguageModel(judged.Series):
    """One decoder language model of two layers: tied head, grouped key heads, accumulation, clipping."""

    contract = "tensor/language_model"
    mesh = "data=2,tensor=4"
    params = (["jax-shard_map", "jax-automatic", "torch-collectives", "torch-dtensor"], ["float32", "bfloat16"])

    def setup_cache(self) -> dict:
        return self.measured()
