"""LAMB: the step of AdamW, scaled by the norm of what it moves.

Source: You et al., Large Batch Optimization for Deep Learning: Training BERT in 76 minutes, algorithm 2, with the
identity for phi.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def update(p: Tensor, g: Tensor, slots: list[Tensor], count: Tensor, recipe: Any) -> tuple[Tensor, list[Any]]:
    """u = m' / (sqrt(v') + epsilon) + decay p; p <- p - rate |p| / |u| u, norms over all elements of the tensor.

    m' and v' are the moments of Adam corrected for their start at zero. Where a norm is zero the ratio is 1.
    """
    first, second = recipe.betas
    m = first * slots[0] + (1 - first) * g
    v = second * slots[1] + (1 - second) * g * g
    steps = count.to(p.dtype)
    corrected_m, corrected_v = m / (1 - first**steps), v / (1 - second**steps)
    u = corrected_m / (torch.sqrt(corrected_v) + recipe.epsilon) + recipe.weight_decay * p
    return p - recipe.learning_rate * trust_ratio(p, u) * u, [m, v]


def trust_ratio(p: Tensor, u: Tensor) -> Tensor:
    """|p| / |u|."""
    wide, step = torch.sqrt(torch.sum(p * p)), torch.sqrt(torch.sum(u * u))
    return torch.where((wide == 0) | (step == 0), 1.0, wide / torch.where(step == 0, 1.0, step))
