"""data x tensor x pipeline: every stage sharded over the tensor axis, rows over data."""

from __future__ import annotations

from suites.pipeline.torch_manual import models


class LanguageModel(models.LanguageModel):
    """Stages balanced by cost, under 1F1B."""

    schedule_name = "1f1b"


class EmbeddingFirst(models.LanguageModel):
    """Stage 0 is the embedding alone."""

    schedule_name = "1f1b"

    @property
    def cuts(self) -> tuple[int, ...]:
        return 0, 1, len(self.stage_units)


class GPipe(models.LanguageModel):
    """Stages balanced by cost, all forward passes before all backward passes."""

    schedule_name = "gpipe"
