"""A loss that couples all rows of a batch, on ranks that have a part of the rows each.

Law: every rank compares its own rows with those of all ranks. What was gathered for that sends its gradient back where
it came from: the gradient of a gather is a reduce-scatter, since each rank's losses depend on the rows of all.
Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, section 2.4.

b: rows of this rank  B: rows of all ranks  D: hidden
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from suites.tensor.torch_manual.feedforward import FeedForwardBlock
from suites.training.torch.collectives import MeshAxis
from suites.training.torch.state import Named


class GatherRows(torch.autograd.Function):
    """The rows of all ranks; every rank has a gradient of each of them, and gets the sum for its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: MeshAxis) -> Tensor:
        ctx.axis = axis
        return axis.all_gather(x, 0)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.axis.reduce_scatter(g, 0), None


class ContrastiveTowers(FeedForwardBlock):
    """Two towers and their loss."""

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        x_b2D, mask_b = batch["inputs"], batch["mask"]
        left_bD, right_bD = self.embedded(x_b2D[:, :1], "left", p), self.embedded(x_b2D[:, 1:], "right", p)
        lefts_BD, rights_BD, mask_B = self.gather_rows(left_bD), self.gather_rows(right_bD), self.gather_rows(mask_b)
        place_b = self.first_row(len(mask_b)) + torch.arange(len(mask_b))
        seen_bB = (mask_B > 0)[None, :] | (place_b[:, None] == torch.arange(len(mask_B))[None, :])
        inverse_temperature = p["logit_scale.scale"].to(self.master).exp()
        of_left_b = _entropy(inverse_temperature * (left_bD @ rights_BD.T), seen_bB, place_b)
        of_right_b = _entropy(inverse_temperature * (right_bD @ lefts_BD.T), seen_bB, place_b)
        losses_b = mask_b * (of_left_b + of_right_b) / 2
        observed = {"outputs/left": left_bD, "outputs/right": right_bD, "outputs/row_losses": losses_b}
        return losses_b.sum(), mask_b.sum(), observed

    def embedded(self, x_b1D: Tensor, name: str, p: Named) -> Tensor:
        """The normalized (unit-length) embedding of each row, in the master dtype."""
        y_bD = self.feedforward(x_b1D, name, p)[:, 0].to(self.master)
        return y_bD * ((y_bD * y_bD).sum(-1, keepdim=True) + self.contract.model.norm_epsilon).rsqrt()

    def gather_rows(self, x: Tensor) -> Tensor:
        """The rows of all ranks in their order; the axis that cuts finest first."""
        for axis in reversed(self.row_axes):
            x = self.gather_over(axis, x)
        return x

    def gather_over(self, axis: str, x: Tensor) -> Tensor:
        """The rows of an axis."""
        return GatherRows.apply(x, self.axis(axis))

    def first_row(self, rows: int) -> int:
        """Where the rows of this rank begin among all, each rank having so many."""
        place = 0
        for name in self.row_axes:
            place = place * self.mesh.size(name) + self.axis(name).rank
        return place * rows

    def compute_axes(self) -> tuple[str, ...]:
        """Similarities are sharded by rows alone."""
        return self.data_axes


def _entropy(logits_bB: Tensor, seen_bB: Tensor, place_b: Tensor) -> Tensor:
    """[b]: cross-entropy of each row of the logits against its own pair."""
    own_b = logits_bB.gather(1, place_b[:, None])[:, 0]
    return logits_bB.masked_fill(~seen_bB, -torch.inf).logsumexp(-1) - own_b
