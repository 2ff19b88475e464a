"""data x fsdp x pipeline x tensor: stages under 1F1B, everything that is stored of them sharded over fsdp."""

from __future__ import annotations

from suites.hybrid.jax_manual.packed_shards import PackedShards
from suites.hybrid.step_budget import SHARDED_VECTORS
from suites.pipeline.jax_manual import models


class LanguageModel(PackedShards, models.LanguageModel):
    """A dense decoder language model."""

    pipeline_budget = SHARDED_VECTORS
    schedule_name = "1f1b"
