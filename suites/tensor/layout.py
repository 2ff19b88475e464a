"""How tensor parallelism stores every parameter: which dim is sharded, and in which order its elements lie.

Framework-neutral: numpy only. Column-parallel weights are S(1), row-parallel weights S(0), an embedding S(0), which
divides its vocabulary. Every rank holds a chunk of the same size: what does not divide is padded with zeros. A fused
projection holds on each rank that rank's part of each of its sections; a key head that several ranks need is stored by
each of them.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from conformance.contract.contract import Contract
from conformance.contract.implementation import Unsupported
from conformance.contract.mesh import Mesh
from conformance.contract.placements import Placements, Replicate, Shard, sharded_dim
from suites.training.state_layout import Positions, StateLayout


class TensorLayout:
    """Where the elements of a parameter lie. `columns` and `rows` name the modules sharded by outputs or by inputs."""

    contract: Contract
    mesh: Mesh
    tensor_axis: ClassVar[str] = "tensor"
    columns: ClassVar[tuple[str, ...]] = ("query", "key", "value", "qkv", "up", "gate", "gate_up", "head")
    rows: ClassVar[tuple[str, ...]] = ("output", "down", "adapter_in", "embedding")

    def tensor_size(self) -> int:
        return self.mesh.size(self.tensor_axis)

    def placements(self, name: str) -> Placements:
        """Stored placement of a parameter; what is not sharded is replicated."""
        module, leaf = _module_and_leaf(name)
        if module in self.columns:
            return {self.tensor_axis: Shard(1) if leaf == "weight" else Shard(0)}
        if module in self.rows and leaf == "weight":
            return {self.tensor_axis: Shard(0)}
        return {}

    def positions(self, name: str) -> Positions:
        """dim -> canonical index of every stored element, -1 for padding; empty where stored order is canonical."""
        dim = sharded_dim(self.placements(name).get(self.tensor_axis, Replicate()))
        if dim is None:
            return {}
        size = self.contract.shapes[name][dim]
        stored = positions(self.sections(name, size), self.tensor_size())
        return {} if np.array_equal(stored, np.arange(size)) else {dim: stored}

    def computed_positions(self, name: str) -> Positions:
        """The order in which a parameter is computed with, where it is stored in another one."""
        return self.positions(name)

    def sections(self, name: str, size: int) -> list[tuple[int, int]]:
        """(units, elements of a unit) of each section along the sharded dim; units are what may not be cut."""
        model, (module, _) = self.contract.model, _module_and_leaf(name)
        query, key = (model.num_heads, model.head_size), (model.num_kv_heads, model.head_size)
        return {
            "query": [query],
            "output": [query],
            "key": [key],
            "value": [key],
            "qkv": [query, key, key],
            "gate_up": [(size // 2, 1)] * 2,
        }.get(module, [(size, 1)])

    def is_partial(self, name: str) -> bool:
        """One scale norms all heads: each device has its heads' part of its gradient."""
        return name.endswith((".query_norm.scale", ".key_norm.scale"))

    def is_repeated(self, name: str) -> bool:
        """Whether several ranks store the same elements of a sharded parameter."""
        return any(_is_repeated(stored) for stored in self.positions(name).values())

    def divides_evenly(self) -> bool:
        """Whether every rank does exactly its share: no padding, nothing repeated."""
        stored = [positions for name in self.contract.shapes for positions in self.computed_positions(name).values()]
        return not any(_is_repeated(positions) or (positions < 0).any() for positions in stored)

    def require_whole_heads(self) -> None:
        """Refuse what would cut a head in two."""
        model, size, axis = self.contract.model, self.tensor_size(), self.tensor_axis
        if model.num_heads % size:
            raise Unsupported(
                f"{model.num_heads} attention heads cannot be divided over {size} devices of the {axis} axis."
            )
        if model.num_heads and model.num_kv_heads % size and size % model.num_kv_heads:
            raise Unsupported(
                f"{model.num_kv_heads} key heads cannot be divided over {size} devices of the {axis} axis, "
                f"nor repeated evenly on them."
            )


class TensorState(TensorLayout, StateLayout):
    """Rows over data, parameters over tensor."""

    model_axes: ClassVar[tuple[str, ...]] = ("tensor",)


class ColumnState(TensorState):
    """One linear layer whose columns are sharded."""

    columns = ("linear",)


class RowState(TensorState):
    """One linear layer whose rows are sharded."""

    rows = ("linear",)


class TileState(ColumnState):
    """One linear layer whose rows are sharded over data and whose columns are sharded over tensor."""

    row_axes = ()
    model_axes = ("data", "tensor")

    def placements(self, name: str) -> Placements:
        tile = {"data": Shard(0)} if name == "linear.weight" else {}
        return {**tile, **super().placements(name)}


class SubmeshState(ColumnState):
    """Columns over data alone; the tensor axis, and the batch, are replicated."""

    tensor_axis = "data"
    model_axes = ("data",)
    row_axes = ()


def positions(sections: list[tuple[int, int]], ranks: int) -> np.ndarray:
    """Canonical index of each stored element: rank by rank, and within a rank section by section."""
    starts = np.cumsum([0] + [units * width for units, width in sections])
    parts = [_section(int(start), *section, ranks) for start, section in zip(starts, sections, strict=False)]
    return np.concatenate(parts, axis=1).reshape(-1)


def _section(start: int, units: int, width: int, ranks: int) -> np.ndarray:
    """[ranks, elements]: each rank's units, in ceil-sized chunks; whole heads are repeated when there are too few."""
    if width > 1 and units < ranks:
        held = (np.arange(ranks) * units // ranks)[:, None]
    else:
        held = np.arange(ranks * -(-units // ranks)).reshape(ranks, -1)
    elements = start + held[..., None] * width + np.arange(width)
    return np.where(held[..., None] < units, elements, -1).reshape(ranks, -1)


def _is_repeated(stored: np.ndarray) -> bool:
    real = stored[stored >= 0]
    return len(np.unique(real)) < len(real)


def _module_and_leaf(name: str) -> tuple[str, str]:
    """`layers.0.attention.query.weight` -> (`query`, `weight`)."""
    path = ["", *name.split(".")]
    return path[-2], path[-1]
