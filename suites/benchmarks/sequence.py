"""Sequence and context parallelism: the language model on data=2,tensor=2,sequence=2, ring, zigzag and Ulysses."""

from __future__ import annotations

from suites.benchmarks import judged


class ContextLanguageModel(judged.Series):
    """A decoder language model over packed documents, with dropout, its tokens sharded over two axes."""

    contract = "sequence/context_language_model"
    mesh = "data=2,tensor=2,sequence=2"
    params = (
        ["jax-ring", "jax-zigzag", "jax-ulysses", "torch-ring", "torch-zigzag", "torch-ulysses"],
        ["float32", "bfloat16"],
    )

    def setup_cache(self) -> dict:
        return self.measured()
