"""data x expert x tensor x pipeline: stages under 1F1B, their mixtures by all-to-all of uneven splits."""

from __future__ import annotations

from torch import Tensor

from suites.hybrid.stages import MixtureInStages
from suites.hybrid.step_budget import MIXTURE_RANKS
from suites.moe.layout import TERMS
from suites.moe.torch_manual.exchange import UnevenExchange
from suites.pipeline.torch_manual import models
from suites.tensor.torch_manual import transformer


class LanguageModel(MixtureInStages, models.LanguageModel, UnevenExchange, transformer.LanguageModel):
    """A decoder language model with mixtures in some of its layers."""

    pipeline_budget = MIXTURE_RANKS
    schedule_name = "1f1b"

    def wide(self, x: Tensor) -> Tensor:
        return x.to(self.master)

    @property
    def sum_shapes(self) -> dict[str, tuple[int, ...]]:
        terms: dict[str, tuple[int, ...]] = dict.fromkeys((f"metrics/{term}" for term in TERMS), ())
        loads = {f"metrics/load/{name}": (self.contract.model.experts,) for name in self.mixtures}
        return super().sum_shapes | terms | loads
