"""How a training step lies on the devices, in either framework: what a suite says of parameters, rows and outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from conformance.implementation import Implementation, Unsupported
from conformance.placements import Placements

Positions = Mapping[int, np.ndarray]


class StoredTraining(Implementation):
    """A training step whose parameters and rows are divided over mesh axes, once a suite says how."""

    data_axes: ClassVar[tuple[str, ...]] = ("data",)  # the axes that divide the rows of a batch
    model_axes: ClassVar[tuple[str, ...]] = ()  # the axes that divide parameters

    def placements(self, name: str) -> Placements:
        """How a parameter is stored."""
        return {}

    def positions(self, name: str) -> Positions:
        """Stored order of a parameter or an observation where it is not the canonical one (see `Arranged`)."""
        return {}

    def row_placements(self) -> Placements:
        """How rows are divided: those of the batch, and of every observation that has rows."""
        return dict.fromkeys(self.data_axes, "S(0)")

    def batch_placements(self, key: str) -> Placements:
        """How a key of the batch arrives."""
        return self.row_placements()

    def output_placements(self) -> Mapping[str, Placements]:
        """The observations that are divided by more than rows."""
        return {}

    def require_supported(self) -> None:
        """Raise Unsupported for a contract that this mesh cannot carry."""

    def require_whole_rows(self, rows: int) -> None:
        """Raise Unsupported for a batch that does not divide into equal slices on every device."""
        parts, slices = self.size(self.data_axes), self.contract.recipe.accumulation
        if rows % (parts * slices):
            raise Unsupported(
                f"A batch of {rows} rows cannot be divided over {parts} devices of the data axis "
                f"and into {slices} equal slices on each."
            )

    def size(self, axes: tuple[str, ...]) -> int:
        """How many parts the axes make together."""
        return math.prod(self.mesh.size(axis) for axis in axes)


def arrange(canonical: np.ndarray, positions: Positions) -> np.ndarray:
    """Canonical array -> as it is stored: permuted or repeated along some dims, zero where padded."""
    for dim, stored in positions.items():
        real = np.expand_dims(stored >= 0, tuple(d for d in range(canonical.ndim) if d != dim))
        canonical = np.where(real, canonical.take(np.maximum(stored, 0), axis=dim), 0)
    return canonical
