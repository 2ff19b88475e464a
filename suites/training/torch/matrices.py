"""Optimizers that need whole matrices, where each rank stores a block."""

from __future__ import annotations

from torch import Tensor

from conformance.contract.placements import Placements, Replicate, sharded_dim
from suites.training.state_layout import Positions
from suites.training.torch import optimizers
from suites.training.torch.state import TorchTraining, canonical


class WholeMatrices(TorchTraining):
    """Law: what depends on all elements of a matrix sees the canonical one: no padding, nothing twice, in order."""

    def orthogonal(self, name: str, u: Tensor) -> Tensor:
        """This rank's block of the orthogonalised matrix."""
        return self.own_block(name, optimizers.newton_schulz(self.whole_matrix(name, u)))

    def whole_matrix(self, name: str, x: Tensor) -> Tensor:
        """This rank's block of an optimizer slot -> the canonical matrix."""
        return self.gathered(x, self.slot_placements(name), self.slot_positions(name))

    def own_block(self, name: str, x: Tensor) -> Tensor:
        """The canonical matrix -> this rank's block of it."""
        return self.slot(name, x.numpy())

    def gathered(self, x: Tensor, placements: Placements, positions: Positions) -> Tensor:
        """This rank's block of a tensor -> the canonical tensor."""
        for axis, dim in self.gathered_axes(placements):
            x = self.axis(axis).all_gather(x, dim)
        return canonical(x, positions)

    def gathered_axes(self, placements: Placements) -> list[tuple[str, int]]:
        """(axis, dim) for each axis that divides a tensor, the one that cuts finest first."""
        dims = {axis: sharded_dim(placements.get(axis, Replicate())) for axis in reversed(self.mesh.axes)}
        return [(axis, dim) for axis, dim in dims.items() if dim is not None]
