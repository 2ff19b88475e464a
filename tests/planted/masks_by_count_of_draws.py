from __future__ import annotations

from torch import Tensor

from suites.data.torch_manual.data_parallel import LanguageModel
from suites.training.torch.state import Named


class Program(LanguageModel):
    """Every draw of a mask moves the generator on by one."""

    draws = 0

    @property
    def sites(self) -> list[str]:
        blocks = [
            f"layers.{i}.{block}" for i in range(self.contract.model.layers) for block in ("attention", "feedforward")
        ]
        return ["embedding", *blocks]

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        self.draws = 0
        return super().forward(p, batch)

    def keep_mask(self, site: str, seeds_B: Tensor) -> Tensor:
        drawn = self.sites[self.draws % len(self.sites)]
        self.draws += 1
        return super().keep_mask(drawn, seeds_B)
