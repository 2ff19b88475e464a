"""Norms of whole tensors of which each rank stores a block."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from conformance.contract.placements import sharded_dim
from suites.training.state_layout import first_copies
from suites.training.torch.state import Named, TorchTraining


class TensorNorms(TorchTraining):
    """Law: every element of a tensor counts once, on whatever ranks it is stored, and padding not at all."""

    def tensor_norms(self, values: Named) -> Named:
        """Those sharded over the same axes are summed together."""
        norms: Named = {}
        for axes, names in self.by_slot_axes().items():
            squares = torch.stack([self.own_squares(name, values[name]) for name in names])
            norms |= dict(zip(names, self.sum_squares(axes, squares).sqrt(), strict=True))
        return norms

    def sum_squares(self, axes: tuple[str, ...], squares: Tensor) -> Tensor:
        """Sums over this rank's blocks -> sums over whole tensors."""
        for axis in axes:
            squares = self.axis(axis).all_reduce(squares)
        return squares

    def own_squares(self, name: str, x: Tensor) -> Tensor:
        """The sum of squares of what this rank is the first to store, x being its block of an optimizer slot."""
        placements = self.slot_placements(name)
        for dim, stored in self.slot_positions(name).items():
            counts = first_copies(stored)
            for axis in self.slot_axes(name):
                if sharded_dim(placements[axis]) == dim:
                    counts = np.split(counts, self.axis(axis).size)[self.axis(axis).rank]
            x = x * torch.tensor(counts, dtype=x.dtype).reshape([-1 if d == dim else 1 for d in range(x.ndim)])
        return (x * x).sum()

    def by_slot_axes(self) -> dict[tuple[str, ...], list[str]]:
        """Axes -> the parameters whose slots they divide."""
        names: dict[tuple[str, ...], list[str]] = {}
        for name in self.stored_names:
            names.setdefault(self.slot_axes(name), []).append(name)
        return names
