"""data x fsdp x pipeline x tensor: stages under 1F1B, the optimizer slots of each sharded over fsdp."""

from __future__ import annotations

from suites.data.torch_manual.zero1 import Zero1
from suites.hybrid.step_budget import SHARDED_RANKS
from suites.pipeline.torch_manual import models


class LanguageModel(Zero1, models.LanguageModel):
    """A dense decoder language model."""

    pipeline_budget = SHARDED_RANKS
    schedule_name = "1f1b"
