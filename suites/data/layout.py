"""The layout of sharded training state (ZeRO): dim 0 of every tensor in equal chunks over the shard axis.

Framework-neutral: numpy only. What does not divide is padded with zeros. A dim that tensor parallelism divides too is
sharded by the shard axis first: rank (f, t) holds chunk f of what tensor rank t would hold by itself, so that a gather
over the shard axis gives each rank exactly the block that the model computes with.
Source: Rajbhandari et al., ZeRO: Memory Optimizations Toward Training Trillion Parameter Models, section 5.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from conformance.contract.implementation import Unsupported
from conformance.contract.placements import Placements, Shard, sharded_dim
from suites.training.state_layout import Positions, StateLayout


class ShardedState(StateLayout):
    """A mixin for a training step: rows are sharded over `data` and `fsdp`, and state over `fsdp` where asked."""

    row_axes: ClassVar[tuple[str, ...]] = ("data", "fsdp")
    shard_axis: ClassVar[str] = "fsdp"

    def shard_size(self) -> int:
        return self.mesh.size(self.shard_axis)

    def shard_dim(self, name: str) -> int:
        """The dim of a parameter that is sharded over the shard axis."""
        return 0

    # Layouts that are replicated over the shard axis.

    def computed_placements(self, name: str) -> Placements:
        """Placements of a parameter when the model computes with it."""
        return super().placements(name)

    def computed_positions(self, name: str) -> Positions:
        return super().positions(name)

    # What is sharded over it.

    def sharded_placements(self, name: str) -> Placements:
        return {**self.computed_placements(name), self.shard_axis: Shard(self.shard_dim(name))}

    def sharded_positions(self, name: str) -> Positions:
        """Where the elements of a sharded parameter come from; -1 for padding, empty where order is canonical."""
        positions, dim = dict(self.computed_positions(name)), self.shard_dim(name)
        size = self.contract.shapes[name][dim]
        stored = positions.pop(dim, np.arange(size))
        chunks_TFW = in_chunks(stored.reshape(self.others(name), -1), self.shard_size())
        stored = chunks_TFW.swapaxes(0, 1).reshape(-1)
        return positions if np.array_equal(stored, np.arange(size)) else {**positions, dim: stored}

    def others(self, name: str) -> int:
        """Into how many parts other axes divide the dim that is sharded."""
        dim, placements = self.shard_dim(name), self.computed_placements(name)
        return self.size(tuple(axis for axis, placement in placements.items() if sharded_dim(placement) == dim))

    def require_supported(self) -> None:
        super().require_supported()
        axes = self.mesh.axes
        if self.shard_axis in axes and any(axis in axes[: axes.index(self.shard_axis)] for axis in self.inner_axes):
            raise Unsupported(
                f"State is sharded over {self.shard_axis} first, so that axis comes before "
                f"{' and '.join(self.inner_axes)} in a mesh, and not behind as in {self.mesh}."
            )

    inner_axes: ClassVar[tuple[str, ...]] = ("tensor",)


class SeveralRowAxes:
    """Rows over `data` and `fsdp`, the whole state on every device."""

    row_axes: ClassVar[tuple[str, ...]] = ("data", "fsdp")


class SlotShards(ShardedState):
    """Optimizer slots are sharded."""

    def slot_placements(self, name: str) -> Placements:
        return self.sharded_placements(name)

    def slot_positions(self, name: str) -> Positions:
        return self.sharded_positions(name)


class GradientShards(ShardedState):
    """Gradients are reduced to shards, which are summed over the other axes of the data."""

    model_axes: ClassVar[tuple[str, ...]] = ("fsdp", "tensor")  # the squares of their shards are summed over both

    def gradient_placements(self, name: str) -> Placements:
        return self.sharded_placements(name)

    def gradient_positions(self, name: str) -> Positions:
        return self.sharded_positions(name)

    @property
    def gradient_axes(self) -> tuple[str, ...]:
        return tuple(axis for axis in self.data_axes if axis != self.shard_axis)


class ParameterShards(GradientShards):
    """Parameters are sharded, and so is all that has their shape."""

    def placements(self, name: str) -> Placements:
        return self.sharded_placements(name) if name in self.contract.shapes else super().placements(name)

    def positions(self, name: str) -> Positions:
        return self.sharded_positions(name) if name in self.contract.shapes else super().positions(name)


def in_chunks(elements: np.ndarray, parts: int, padding: int = -1) -> np.ndarray:
    """[..., n] -> [..., parts, width]: equal chunks of the last dim, padded at its end."""
    missing = -elements.shape[-1] % parts
    widths = [(0, 0)] * (elements.ndim - 1) + [(0, missing)]
    return np.pad(elements, widths, constant_values=padding).reshape(*elements.shape[:-1], parts, -1)
