"""Pipeline parallelism: the language model in four stages, twice, under every schedule."""

from __future__ import annotations

from suites.benchmarks import judged
from suites.pipeline.schedules import SCHEDULES


class PipelinedLanguageModel(judged.Series):
    """A decoder language model under AdamW with a tied embedding, 4 microbatches."""

    contract = "pipeline/language_model"
    mesh = "data=2,pipeline=4"
    params = (
        [f"{framework}-{name}" for framework in ("jax", "torch") for name in SCHEDULES],
        ["float32"],
    )

    def setup_cache(self) -> dict:
        return self.measured()
