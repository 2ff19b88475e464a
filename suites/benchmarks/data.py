"""Data parallelism and sharded state: the language model on data=2,fsdp=4, ZeRO-1 to 3 and FSDP2."""

from __future__ import annotations

from suites.benchmarks import judged


class ShardedLanguageModel(judged.Series):
    """A decoder language model under AdamW, its state sharded over the fsdp axis and replicated over data."""

    contract = "data/language_model"
    mesh = "data=2,fsdp=4"
    params = (
        ["jax-zero1", "jax-zero2", "jax-zero3", "torch-zero1", "torch-zero2", "torch-zero3", "torch-fsdp2"],
        ["float32", "bfloat16"],
    )

    def setup_cache(self) -> dict:
        return self.measured()
