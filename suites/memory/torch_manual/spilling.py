"""Large activations wait in host memory for the backward pass: hooks on what autograd saves move them there and back.

Law: every bit comes back. Parameters stay where they are. Where there is no other device than the CPU, host memory is
another copy in the same memory, so values and placement can be shown there, and bytes cannot.
Source: https://docs.pytorch.org/docs/stable/autograd.html#saved-tensors-default-hooks
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from suites.training.torch.state import Named

if TYPE_CHECKING:
    from suites.tensor.torch_manual.transformer import LanguageModel as Conforming
else:
    Conforming = object  # a mixin: it comes before the model in the bases


@dataclass(frozen=True, kw_only=True)
class Spilled:
    """A copy in host memory, and the device to which it returns."""

    host: Tensor
    device: torch.device


class Spilling(Conforming):
    """A mixin for a training step with a forward pass of named parameters."""

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        if self.contract.recipe.spill is None:
            return super().forward(p, batch)
        stays = {value.untyped_storage().data_ptr() for value in p.values()}
        with saved_tensors_hooks(lambda saved: self.put_away(saved, stays), self.brought_back):
            return super().forward(p, batch)

    def put_away(self, saved: Tensor, stays: set[int]) -> Tensor | Spilled:
        """In host memory from the threshold on, pinned where there is a device to copy from."""
        least = self.contract.recipe.spill
        small = least is None or saved.numel() * saved.element_size() < least
        if small or saved.untyped_storage().data_ptr() in stays:
            return saved
        host = torch.empty_like(saved, device="cpu", pin_memory=saved.device.type != "cpu")
        return Spilled(host=host.copy_(saved), device=saved.device)

    def brought_back(self, kept: Tensor | Spilled) -> Tensor:
        return kept.host.to(kept.device) if isinstance(kept, Spilled) else kept
