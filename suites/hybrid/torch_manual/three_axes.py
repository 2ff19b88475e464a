"""data x tensor x pipeline: every stage sharded over the tensor axis, rows over data."""

from __future__ import annotations

from suites.hybrid.cuts import EmbeddingAlone
from suites.pipeline.step_budget import RANKS
from suites.pipeline.torch_manual import models


class LanguageModel(models.LanguageModel):
    """Stages balanced by cost, under 1F1B."""

    schedule_name = "1f1b"


class EmbeddingFirst(EmbeddingAlone, models.LanguageModel):
    """Stage 0 is the embedding alone."""

    pipeline_budget = RANKS.laid(EmbeddingAlone)
    schedule_name = "1f1b"


class GPipe(models.LanguageModel):
    """Stages balanced by cost, all forward passes before all backward passes."""

    schedule_name = "gpipe"
