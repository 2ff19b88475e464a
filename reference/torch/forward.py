"""What a forward pass gives, and the cross-entropy of its logits.

B: rows  S: tokens of a row  V: vocabulary, or classes
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from reference.architecture import Architecture
from reference.torch.layers import Tensors
from reference.torch.losses import cross_entropy


class Forward(NamedTuple):
    """The forward pass of one model on one batch.

    observed  activations/... and outputs/..., rows along dim 0, in data-flow order
    sums      `loss`, `weight` (what the loss is divided by), `tokens` (valid elements) and the terms of the loss
    slopes    gradients of the sum `loss` with respect to keys of the batch, rows along dim 0; who differentiates adds
              them, where a key is asked for
    """

    observed: Tensors
    sums: Tensors
    slopes: Tensors


def judged(observed: Tensors, targets: Tensor, mask: Tensor, model: Architecture, statistics: torch.dtype) -> Forward:
    """The cross-entropy of outputs/logits, [B, S, V] or [B, V]; adds outputs/token_losses, shaped as the targets."""
    entropy, z = cross_entropy(observed["outputs/logits"], targets, model.label_smoothing, model.z_loss, statistics)
    losses, tokens = mask * (entropy + z), torch.sum(mask)
    sums = {"loss": torch.sum(losses), "weight": tokens, "tokens": tokens}
    terms = {"cross_entropy": torch.sum(mask * entropy), "z_loss": torch.sum(mask * z)}
    return Forward(observed | {"outputs/token_losses": losses}, sums | terms, {})
