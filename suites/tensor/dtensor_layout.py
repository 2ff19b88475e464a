"""How DTensor stores what tensor parallelism divides: cut in ceil-sized chunks, nothing padded or repeated."""

from __future__ import annotations

import math
from typing import ClassVar

from conformance.contract.placements import Placements, Shard, sharded_dim
from suites.tensor.layout import TensorLayout
from suites.training.state_layout import Positions, StateLayout


class DTensorLayout(TensorLayout, StateLayout):
    """Key and value heads that are fewer than the ranks are held whole by all of them."""

    model_axes: ClassVar[tuple[str, ...]] = ("tensor",)

    def placements(self, name: str) -> Placements:
        is_key = name.split(".")[-2:-1] in (["key"], ["value"])
        return {} if is_key and self.keys_are_replicated else super().placements(name)

    @property
    def keys_are_replicated(self) -> bool:
        return self.contract.model.num_kv_heads % self.tensor_size() != 0

    def positions(self, name: str) -> Positions:
        """A fused projection is stored so that equal chunks hold equal parts of its sections; all else as it is."""
        return super().positions(name) if name.split(".")[-2:-1] in (["qkv"], ["gate_up"]) else {}

    def local_elements(self, name: str) -> int:
        """Elements of a parameter on a rank that has a full chunk."""
        shape = list(self.arranged_shape(name, self.positions(name)))
        for axis, placement in self.placements(name).items():
            dim = sharded_dim(placement) or 0
            shape[dim] = -(-shape[dim] // self.mesh.size(axis))
        return math.prod(shape)


class DTensorColumns(DTensorLayout):
    """One linear layer whose columns are sharded."""

    columns = ("linear",)


class DTensorRows(DTensorLayout):
    """One linear layer whose rows are sharded."""

    rows = ("linear",)


class DTensorTiles(DTensorColumns):
    """One linear layer: rows of its weight over data, columns over tensor."""

    row_axes = ()
    model_axes = ("data", "tensor")

    def placements(self, name: str) -> Placements:
        tile = {"data": Shard(0)} if name == "linear.weight" else {}
        return {**tile, **super().placements(name)}


class DTensorSubmesh(DTensorColumns):
    """Columns over data alone; the tensor axis, and the batch, are replicated."""

    tensor_axis = "data"
    model_axes = ("data",)
    row_axes = ()
