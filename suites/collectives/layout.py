"""Where rows and results lie, and what native collectives carry. Framework-neutral.

Rows of the operand are sharded over the axes of the collective, lanes over all other axes, so that each axis of a mesh
divides something and a collective over one runs side by side on the others. What does not divide is padded at the end.

V: rows, N: features, M: lanes (see `reference.rows`); k: devices of the collective
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np

from conformance.contract.implementation import CollectiveKind, Phase, Unsupported
from conformance.contract.placements import Placements, Shard
from reference.rows import OPERAND
from suites.collectives.model import Collective
from suites.training.state_layout import Positions, ShardedTraining
from suites.training.traffic import Transfer


class RowsOverAxes(ShardedTraining):
    """A training step of a function of rows. `transposed` names the collective that a gradient goes back by."""

    transposed: Mapping[CollectiveKind, CollectiveKind] = {
        "all_reduce": "all_reduce",
        "all_gather": "reduce_scatter",
        "reduce_scatter": "all_gather",
        "all_to_all": "all_to_all",
        "permute": "permute",
        "broadcast": "reduce",
    }

    @property
    def model(self) -> Collective:
        return self.contract.model

    @property
    def real_inputs(self) -> tuple[str, ...]:
        """None: the operand is the parameter."""
        return ()

    @property
    def axes_used(self) -> tuple[str, ...]:
        """The axes of the collective that have several devices, in the order of the mesh."""
        return tuple(axis for axis in self.mesh.axes if axis in self.model.axes and self.mesh.size(axis) > 1)

    @property
    def devices(self) -> int:
        """k."""
        return self.size(self.model.axes)

    @cached_property
    def lane_axes(self) -> tuple[str, ...]:
        return tuple(axis for axis in self.mesh.axes if axis not in self.model.axes)

    @property
    def local_rows(self) -> int:
        return -(-self.model.rows // self.devices)

    @property
    def local_features(self) -> int:
        """Of a result whose features are scattered."""
        return -(-self.model.features // self.devices)

    @property
    def local_lanes(self) -> int:
        return self.model.lanes // self.size(self.lane_axes)

    def require_supported(self) -> None:
        model, k = self.model, self.devices
        if model.lanes % self.size(self.lane_axes):
            raise Unsupported(f"{model.lanes} lanes cannot be divided over {' and '.join(self.lane_axes)}.")
        if model.rows % k and (model.collective == "permute" or model.function == "mean"):
            what = "moved along" if model.collective == "permute" else "averaged over"
            raise Unsupported(f"{model.rows} rows cannot be {what} {k} devices: blocks of one size are needed.")

    # Placements, and the order of what is padded.

    def placements(self, name: str) -> Placements:
        return self.sharded(2)

    def positions(self, name: str) -> Positions:
        return _padded(self.model.rows, self.devices)

    def sharded(self, lanes: int) -> Placements:
        """Dim 0 over the axes of the collective, the dim of lanes over the others."""
        return dict.fromkeys(self.model.axes, Shard(0)) | dict.fromkeys(self.lane_axes, Shard(lanes))

    def batch_placements(self, key: str) -> Placements:
        """Weights lie as the results that they are for, or are divided among readers."""
        if key == "counts":
            return self.sharded(2)
        return self.sharded(len(self.model.result) - 1 + bool(self.model.readers))

    def observation_placements(self, name: str) -> Placements:
        """Results that all devices have whole, or their own part of."""
        lanes = len(self.model.result) - 1
        return dict.fromkeys(self.lane_axes, Shard(lanes)) if self.model.readers else self.sharded(lanes)

    def observation_positions(self, name: str) -> Positions:
        scattered = name.startswith("outputs/") and not self.model.readers
        return _padded(self.model.result[0], self.devices) if scattered else {}

    # What is communicated.

    def carried(self) -> int:
        """Elements per device, the larger of operand and result."""
        features, rows, lanes = self.model.features, self.local_rows, self.local_lanes
        return (
            lanes
            * {
                "all_reduce": features,
                "all_gather": self.devices * rows * features,
                "reduce_scatter": self.devices * self.local_features,
                "all_to_all": rows * self.devices * self.local_features,
                "permute": features * (rows if self.model.function == "reverse" else 1),
                "broadcast": features,
            }[self.model.collective]
        )

    def transfers(self) -> Iterator[Transfer]:
        """The collective, its transpose, the same of whole numbers without a gradient, and the sum of losses."""
        yield from self.collective_transfers(self.model.collective, "forward", self.compute_dtype)
        yield from self.collective_transfers(self.transposed[self.model.collective], "backward", self.compute_dtype)
        if self.model.whole:
            yield from self.collective_transfers(self.model.collective, "forward", "int32")
        yield from self.loss_transfers()

    def collective_transfers(self, kind: CollectiveKind, phase: Phase, dtype: str) -> Iterator[Transfer]:
        yield Transfer(kind=kind, axes=self.axes_used, phase=phase, elements=self.carried(), dtype=dtype)

    def loss_transfers(self) -> Iterator[Transfer]:
        """One sum over all axes at once."""
        yield Transfer(kind="all_reduce", axes=self.mesh.axes, phase="update", elements=1, dtype=self.loss_dtype)

    @property
    def compute_dtype(self) -> str:
        return self.contract.recipe.precision.dtype("compute", self.dtype)

    @property
    def loss_dtype(self) -> str:
        return self.contract.recipe.precision.dtype("statistics", self.dtype)

    def layout(self) -> dict[str, Placements]:
        return {OPERAND: self.placements(OPERAND)}


def _padded(size: int, parts: int) -> Positions:
    """Dim 0 in its order, -1 where it is filled up to divide."""
    missing = -size % parts
    return {0: np.pad(np.arange(size), (0, missing), constant_values=-1)} if missing else {}
