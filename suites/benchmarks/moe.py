"""Expert parallelism: the mixture by itself with prescribed, uneven routing, and a language model."""

from __future__ import annotations

from suites.benchmarks import judged


class RoutedMixture(judged.Series):
    """Eight experts, two choices, one expert overloaded and one idle."""

    contract = "moe/routed"
    mesh = "data=2,expert=4"
    params = (["jax-capacity", "jax-ragged", "torch-exchange"], ["float32", "bfloat16"])

    def setup_cache(self) -> dict:
        return self.measured()


class MixtureLanguageModel(judged.Series):
    """A decoder language model with two mixtures under AdamW, routing prescribed."""

    contract = "moe/routed_model"
    mesh = "data=2,expert=4"
    params = (["jax-capacity", "jax-ragged", "torch-exchange"], ["float32"])

    def setup_cache(self) -> dict:
        return self.measured()
