"""data x expert x tensor x pipeline: stages under 1F1B, their mixtures by all-to-all of buffers."""

from __future__ import annotations

from suites.hybrid.jax_manual.packed_mixture import PackedMixture
from suites.hybrid.stages import MixtureInStages
from suites.hybrid.step_budget import MIXTURE_VECTORS
from suites.moe.jax_manual.capacity import CapacityExchange
from suites.pipeline.jax_manual import models
from suites.tensor.jax_manual import transformer


class LanguageModel(  # type: ignore[misc, metaclass]
    MixtureInStages, PackedMixture, models.LanguageModel, CapacityExchange, transformer.LanguageModel
):
    """A decoder language model with mixtures in some of its layers."""

    pipeline_budget = MIXTURE_VECTORS
    schedule_name = "1f1b"
