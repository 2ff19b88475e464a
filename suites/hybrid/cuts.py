"""Stages that are not balanced by cost. Framework-neutral."""

from __future__ import annotations

from suites.pipeline.layout import PipelineLayout
from suites.pipeline.partition import Cuts


class EmbeddingAlone(PipelineLayout):
    """Stage 0 is the embedding, stage 1 all else."""

    @property
    def cuts(self) -> Cuts:  # type: ignore[override]
        return 0, 1, len(self.stage_units)
