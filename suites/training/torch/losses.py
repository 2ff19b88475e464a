"""The quadratic loss of a block that is trained by itself."""

from __future__ import annotations

from torch import Tensor

from suites.training.torch.manual import CollectiveTraining
from suites.training.torch.state import Named


class QuadraticLoss(CollectiveTraining):
    """Half the squared error of the valid rows; it is divided by their number and by their features."""

    @property
    def weight_per_token(self) -> int:
        return self.contract.model.outputs or self.contract.model.hidden

    def quadratic(self, y: Tensor, batch: Named) -> tuple[Tensor, Tensor]:
        """(sum of half the squared error, number of elements in it) over this rank's valid rows."""
        error = y.to(self.master) - batch["targets"]
        loss = (batch["mask"] * 0.5 * (error * error).sum(-1)).sum()
        return loss, batch["mask"].sum() * self.weight_per_token
