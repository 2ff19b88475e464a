"""data x pipeline x sequence x tensor: stages under 1F1B, a ring inside them, a sharded stream between blocks."""

from __future__ import annotations

from suites.hybrid.context import ContextInStages
from suites.hybrid.step_budget import CONTEXT_RANKS
from suites.pipeline.torch_manual import models
from suites.sequence.torch_manual import ring


class LanguageModel(ContextInStages, models.LanguageModel, ring.LanguageModel):
    """A dense decoder language model."""

    pipeline_budget = CONTEXT_RANKS
    schedule_name = "1f1b"
