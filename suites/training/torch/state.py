"""What both torch styles share: the placement of parameters, optimizer state and batch on the ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from conformance.contract.implementation import Reordered, Sharded
from conformance.contract.placements import Placements, Replicate, sharded_dim
from suites.training.state_layout import Positions, ShardedTraining, arrange
from suites.training.torch.collectives import MeshAxis

Named = dict[str, Tensor]
State = dict[str, Any]


class TorchTraining(ShardedTraining):
    """A training step whose state is {parameters, optimizer, count}: the blocks that this rank stores."""

    framework = "torch"
    device_mesh: DeviceMesh

    # The implementation protocol, except the step.

    def place(self, parameters: dict[str, np.ndarray], mesh: DeviceMesh) -> State:
        self.require_supported()
        self.device_mesh = mesh
        return self.state(parameters)

    def collect(self, state: State) -> Mapping[str, Any]:
        collected = {f"parameters/{name}": self.as_stored(name, value) for name, value in state["parameters"].items()}
        for slot, values in state["optimizer"].items():
            collected |= {f"optimizer/{slot}/{name}": self.as_slot(name, value) for name, value in values.items()}
        return collected | {"optimizer/count": state["count"]}

    def state(self, parameters: Mapping[str, np.ndarray]) -> State:
        """The state before the first step: parameters as they are stored, the master copy if there is one, zeros."""
        names = self.stored_names
        slots = {
            slot: {name: self.slot(name, np.zeros_like(parameters[name])) for name in names} for slot in self.zero_slots
        }
        if self.master_dtype is not None:
            slots["master"] = {name: self.slot(name, parameters[name]) for name in names}
        stored = {name: self.stored(name, parameters[name]) for name in names}
        return {"parameters": stored, "optimizer": slots, "count": 0}

    @property
    def stored_names(self) -> tuple[str, ...]:
        """The parameters of which this rank stores anything."""
        return tuple(self.contract.shapes)

    # Dtypes.

    @property
    def master(self) -> torch.dtype:
        """Dtype of the optimizer and its slots, of statistics and losses."""
        return torch.float64 if self.dtype == "float64" else torch.float32

    @property
    def compute(self) -> torch.dtype:
        """Dtype of activations and of the parameters that meet them."""
        return dtype_of(self.contract.recipe.precision.dtype("compute", self.dtype))

    def round_gradient(self, g: Tensor) -> Tensor:
        """A gradient in the dtype in which gradients are kept."""
        return g.to(dtype_of(self.gradient_dtype))

    def reduced(self, g: Tensor, sum: Callable[[Tensor], Tensor]) -> Tensor:
        """A gradient summed over devices, in the dtype that is declared for that."""
        return self.round_gradient(sum(g.to(dtype_of(self.reduction_dtype))))

    def batch_dtype(self, key: str, value: np.ndarray) -> torch.dtype:
        """Dtype in which a key of the batch is used: ids as such, inputs to compute with, the rest for statistics."""
        if value.dtype.kind in "iu":
            return torch.int64
        return self.compute if key == "inputs" else self.master

    # From canonical arrays to local blocks, and back as `Sharded` and `Reordered`.

    @cached_property
    def axes(self) -> Mapping[str, MeshAxis]:
        return {name: MeshAxis.of(self.device_mesh, name) for name in self.mesh.axes}

    def axis(self, name: str) -> MeshAxis:
        return self.axes.get(name) or MeshAxis(rank=0, size=1)

    def stored(self, name: str, canonical: np.ndarray) -> Tensor:
        """This rank's block of a canonical parameter, in a memory of its own."""
        array = self.block(arrange(canonical, self.positions(name)), self.placements(name))
        return torch.tensor(array, dtype=self.master).to(dtype_of(self.stored_dtype))

    def slot(self, name: str, canonical: np.ndarray) -> Tensor:
        """This rank's block of an optimizer slot."""
        array = self.block(arrange(canonical, self.slot_positions(name)), self.slot_placements(name))
        return torch.tensor(array, dtype=self.master)

    def block(self, array: np.ndarray, placements: Placements) -> np.ndarray:
        """This rank's block of a whole array; a dim that does not divide over its axis is padded with zeros."""
        for name in self.mesh.axes:
            axis, dim = self.axis(name), sharded_dim(placements.get(name, Replicate()))
            if dim is not None:
                array = np.split(pad_to_multiple(array, dim, axis.size), axis.size, axis=dim)[axis.rank]
        return array

    def local_batch(self, batch: Mapping[str, np.ndarray]) -> Named:
        """This rank's part of the batch."""
        self.require_whole_rows(len(batch["mask"]))
        blocks = {
            key: self.block(arrange(value, self.batch_positions(key)), self.batch_placements(key))
            for key, value in batch.items()
        }
        return {key: torch.tensor(value, dtype=self.batch_dtype(key, value)) for key, value in blocks.items()}

    def as_stored(self, name: str, value: Tensor) -> Tensor | Sharded | Reordered:
        """A parameter of this rank -> what it is a part of."""
        return self.part_of(name, value, self.placements(name), self.positions(name))

    def as_slot(self, name: str, value: Tensor) -> Tensor | Sharded | Reordered:
        return self.part_of(name, value, self.slot_placements(name), self.slot_positions(name))

    def as_gradient(self, name: str, value: Tensor) -> Tensor | Sharded | Reordered:
        return self.part_of(name, value, self.gradient_placements(name), self.gradient_positions(name))

    def part_of(
        self, name: str, value: Tensor, placements: Placements, positions: Positions
    ) -> Tensor | Sharded | Reordered:
        return self.described(value, placements, positions, self.arranged_shape(name, positions))

    def as_output(self, name: str, value: Tensor) -> Tensor | Sharded | Reordered:
        """An observation of this rank that has rows -> what it is a part of."""
        placements, positions = self.observation_placements(name), self.observation_positions(name)
        return self.described(value, placements, positions, self.output_shape(name, value, placements))

    def as_batch(self, key: str, value: Tensor) -> Tensor | Sharded | Reordered:
        """This rank's part of a key of the batch, as it is stored."""
        placements = self.batch_placements(key)
        return self.described(value, placements, {}, self.output_shape(key, value, placements))

    def described(
        self, value: Tensor, placements: Placements, positions: Positions, stored: tuple[int, ...]
    ) -> Tensor | Sharded | Reordered:
        """Say of which whole tensor, `stored` in this shape, a block is a part, and in which order it is stored."""
        placements = {axis: placement for axis, placement in placements.items() if self.axis(axis).size > 1}
        sharded = Sharded(local=value, placements=placements, shape=stored) if placements else value
        if not positions:
            return sharded
        canonical = tuple(int(positions[dim].max()) + 1 if dim in positions else n for dim, n in enumerate(stored))
        return Reordered(value=sharded, shape=canonical, index_map=positions)

    def stored_shape(self, name: str) -> tuple[int, ...]:
        """Shape of the whole of a parameter as it is stored."""
        return self.arranged_shape(name, self.positions(name))

    def output_shape(self, name: str, value: Tensor, placements: Placements) -> tuple[int, ...]:
        """Shape of the whole of which this rank has a block, blocks being of equal size."""
        whole = list(value.shape)
        for axis, placement in placements.items():
            if (dim := sharded_dim(placement)) is not None:
                whole[dim] *= self.axis(axis).size
        return tuple(whole)


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def dtype_of(name: str) -> torch.dtype:
    return getattr(torch, name)


def pad_to_multiple(array: np.ndarray, dim: int, parts: int) -> np.ndarray:
    """Zeros behind the end of a dim until it divides into equal parts."""
    missing = -array.shape[dim] % parts
    return np.pad(array, [(0, missing if d == dim else 0) for d in range(array.ndim)]) if missing else array


def canonical(x: Tensor, positions: Positions) -> Tensor:
    """A whole tensor as it is stored -> in canonical order, without padding and repeats."""
    for dim, stored in positions.items():
        (real,) = np.nonzero(stored >= 0)
        shape = [int(stored.max()) + 1 if d == dim else n for d, n in enumerate(x.shape)]
        real_elements = x.index_select(dim, torch.tensor(real))
        x = x.new_zeros(shape).index_copy(dim, torch.tensor(stored[real]), real_elements)
    return x
