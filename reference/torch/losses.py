"""Losses as sums over valid elements; the sum over a whole batch is divided once, at the end.

B: rows  S: tokens of a row  V: vocabulary, or classes (which have no S)
"""

from __future__ import annotations

import torch
from torch import Tensor


def quadratic(y: Tensor, targets: Tensor, mask: Tensor, statistics: torch.dtype) -> Tensor:
    """Sum over valid rows (all dims but the last) of |y - target|^2 / 2, in `statistics`."""
    error = y.to(statistics) - targets
    return torch.sum(mask * 0.5 * torch.sum(error * error, dim=-1))


def cross_entropy(
    logits_BSV: Tensor, targets_BS: Tensor, smoothing: float, z_loss: float, statistics: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cross-entropy with smoothed labels and the z term z_loss * logsumexp^2, shaped as targets and in `statistics`.

    The label distribution is 1 - smoothing on the target plus smoothing / V on every id (the target too).
    Sources: Szegedy et al., Rethinking the Inception Architecture, section 7; Chowdhery et al., PaLM, section 5.
    """
    logits_BSV = logits_BSV.to(statistics)
    lse_BS = torch.logsumexp(logits_BSV, dim=-1)
    target_BS = logits_BSV.gather(-1, targets_BS.long()[..., None])[..., 0]
    entropy_BS = lse_BS - (1 - smoothing) * target_BS - smoothing * logits_BSV.mean(dim=-1)
    return entropy_BS, z_loss * lse_BS * lse_BS
