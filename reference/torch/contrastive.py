"""A batch-coupled loss: the loss of a row depends on all other rows of the batch.

B: rows  D: hidden
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reference.architecture import Architecture
from reference.torch.feedforward import FeedForward
from reference.torch.forward import Forward
from reference.torch.layers import Tensors, dtype_of, unset


class LogitScale(nn.Module):
    """The logarithm of the factor (inverse temperature) that multiplies the similarities."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = unset(1)


class TwoTowers(nn.Module):
    """Outputs of two towers, normalized; the mean of the cross-entropies of exp(scale) left @ right' by row and column.

    Law: row b is to choose right b among the right halves of all valid rows, and right b the left half of row b. For
    other rows an invalid row is no negative. All of it but the towers is computed in `statistics`.
    Sources: van den Oord et al., Representation Learning with Contrastive Predictive Coding, section 2.3; Radford et
    al., Learning Transferable Visual Models From Natural Language Supervision, figure 3.
    """

    def __init__(self, model: Architecture, statistics: str) -> None:
        super().__init__()
        self.model = model
        self.statistics = dtype_of(statistics)
        self.left = FeedForward(model)
        self.right = FeedForward(model)
        self.logit_scale = LogitScale()

    def forward(self, batch: Tensors) -> Forward:
        left_BD = self.embedded(self.left, batch["inputs"][:, 0])
        right_BD = self.embedded(self.right, batch["inputs"][:, 1])
        mask_B, inverse_temperature = batch["mask"], self.logit_scale.scale.to(self.statistics).exp()
        seen_BB = (mask_B > 0)[None, :] | torch.eye(len(mask_B), dtype=torch.bool)
        of_left_B = _entropy(inverse_temperature * (left_BD @ right_BD.T), seen_BB)
        of_right_B = _entropy(inverse_temperature * (right_BD @ left_BD.T), seen_BB)
        losses_B = mask_B * (of_left_B + of_right_B) / 2
        observed = {"outputs/left": left_BD, "outputs/right": right_BD, "outputs/row_losses": losses_B}
        rows = mask_B.sum()
        return Forward(observed, {"loss": losses_B.sum(), "weight": rows, "tokens": rows}, {})

    def embedded(self, tower: FeedForward, x_BD: Tensor) -> Tensor:
        """The normalized (unit-length) embedding of each row."""
        y_BD = tower(x_BD).to(self.statistics)
        value: Tensor = y_BD * ((y_BD * y_BD).sum(-1, keepdim=True) + self.model.norm_epsilon).rsqrt()
        return value


def _entropy(logits_BB: Tensor, seen_BB: Tensor) -> Tensor:
    """[B]: cross-entropy of each row of the logits against the diagonal entry."""
    return logits_BB.masked_fill(~seen_BB, -torch.inf).logsumexp(-1) - logits_BB.diagonal()
