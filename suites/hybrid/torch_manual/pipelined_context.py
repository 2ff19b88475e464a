"""data x pipeline x sequence x tensor: stages under 1F1B, a ring inside them, a sharded stream between blocks."""

from __future__ import annotations

from suites.hybrid.composed import Composed
from suites.hybrid.context import ContextInStages
from suites.pipeline.torch_manual import models
from suites.sequence.torch_manual import ring


class LanguageModel(Composed, ContextInStages, models.LanguageModel, ring.LanguageModel):
    """A dense decoder language model."""

    schedule_name = "1f1b"
