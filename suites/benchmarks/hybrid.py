"""Hybrid parallelism: a mixture of experts over four axes, and the large transformer, shrunk, over three."""

from __future__ import annotations

from suites.benchmarks import judged


class ShardedMixture(judged.Series):
    """Full sharding, an exchange of tokens, and a sharded stream between blocks."""

    contract = "hybrid/mixture"
    mesh = "data=2,expert=2,tensor=2"
    params = (["jax-five_axes-capacity", "jax-five_axes-ragged", "torch-five_axes"], ["float32"])

    def setup_cache(self) -> dict:
        return self.measured()


class LargeTransformer(judged.Series):
    """GPipe with selective checkpointing."""

    contract = "hybrid/large"
    mesh = "data=2,tensor=2,pipeline=2"
    params = (["jax-three_axes", "torch-three_axes"], ["bfloat16"])

    def setup_cache(self) -> dict:
        return self.measured()
