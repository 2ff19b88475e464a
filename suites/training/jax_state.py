"""What both JAX styles share: how state and batch lie on the devices, and how observations are handed back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from conformance.implementation import Arranged
from conformance.placements import Placements, sharded_dim
from suites.training import jax_optimizers as optimizers
from suites.training.stored import Positions, StoredTraining, arrange

Named = dict[str, jax.Array]


class JaxTraining(StoredTraining):
    """A training step whose state is {parameters, optimizer, count}: sharded arrays in the master dtype."""

    framework = "jax"
    device_mesh: jax.sharding.Mesh

    @property
    def weight_per_token(self) -> int:
        """Elements of the loss per valid token: what the loss is divided by is their number."""
        return 1

    @property
    @abstractmethod
    def program(self) -> Callable[[dict, Named], tuple[dict, Named]]:
        """The compiled step: (state, batch) -> (new state, observations). Compiled once per instance."""

    # The protocol.

    def place(self, parameters: dict[str, np.ndarray], mesh: Any) -> dict:
        self.require_supported()
        automatic = (AxisType.Auto,) * mesh.devices.ndim
        self.device_mesh = jax.sharding.Mesh(mesh.devices, mesh.axis_names, axis_types=automatic)
        stored = {
            name: arrange(parameters[name].astype(self.master), self.positions(name)) for name in self.contract.shapes
        }
        zeros = {name: np.zeros_like(array) for name, array in stored.items()}
        slots = dict.fromkeys(optimizers.slots(self.contract.recipe), zeros)
        state = {"parameters": stored, "optimizer": slots, "count": np.zeros((), np.int32)}
        shardings = jax.tree.map(lambda spec: NamedSharding(self.device_mesh, spec), self.state_specs())
        return jax.device_put(state, shardings)

    def step(self, state: dict, batch: dict[str, Any]) -> tuple[dict, Mapping[str, Any]]:
        self.require_whole_rows(len(batch["mask"]))
        state, observations = self.program(state, batch)
        return state, {name: self.arranged(name, value) for name, value in observations.items()}

    def collect(self, state: dict) -> Mapping[str, Any]:
        found = {f"parameters/{name}": self.arranged(name, value) for name, value in state["parameters"].items()}
        for slot, values in state["optimizer"].items():
            found |= {f"optimizer/{slot}/{name}": self.arranged(name, value) for name, value in values.items()}
        return found | {"optimizer/count": state["count"]}

    # Dtypes, sizes and specs.

    @property
    def master(self) -> str:
        """Dtype of parameters, optimizer state, gradients as reported, statistics and losses."""
        return "float64" if self.dtype == "float64" else "float32"

    @property
    def compute(self) -> str:
        """Dtype of activations and of the parameters that meet them."""
        return self.contract.recipe.precision.compute or self.dtype

    def active(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        """The axes over which there is anything to communicate."""
        return tuple(axis for axis in axes if self.mesh.size(axis) > 1)

    def spec(self, placements: Placements) -> PartitionSpec:
        """Placements -> dim by dim the axes of this mesh that shard it."""
        dims: dict[int, tuple[str, ...]] = {}
        for axis in self.mesh.axes:
            dim = sharded_dim(placements.get(axis, "R"))
            if dim is not None:
                dims[dim] = (*dims.get(dim, ()), axis)
        return PartitionSpec(*(dims.get(dim) for dim in range(max(dims, default=-1) + 1)))

    def parameter_specs(self) -> dict[str, PartitionSpec]:
        return {name: self.spec(self.placements(name)) for name in self.contract.shapes}

    def state_specs(self) -> dict[str, Any]:
        specs = self.parameter_specs()
        slots = dict.fromkeys(optimizers.slots(self.contract.recipe), specs)
        return {"parameters": specs, "optimizer": slots, "count": PartitionSpec()}

    def arranged(self, name: str, value: jax.Array) -> jax.Array | Arranged:
        """Say how a value is stored, unless that is canonical."""
        stored = self.positions(name.removeprefix("gradients/"))
        if not stored:
            return value
        shape = tuple(int(stored[dim].max()) + 1 if dim in stored else n for dim, n in enumerate(value.shape))
        return Arranged(value=value, shape=shape, positions=stored)


def pad_to_multiple(x: jax.Array, dim: int, parts: int) -> jax.Array:
    """Append zeros along dim until it divides into equal parts."""
    missing = -x.shape[dim] % parts
    widths = [(0, missing if d == dim % x.ndim else 0) for d in range(x.ndim)]
    return jnp.pad(x, widths) if missing else x


def reordered(x: jax.Array, positions: Positions) -> jax.Array:
    """Canonical array -> as it is divided: permuted along some dims, zero where padded."""
    for dim, stored in positions.items():
        real = np.expand_dims(stored >= 0, tuple(d for d in range(x.ndim) if d != dim))
        x = jnp.where(real, jnp.take(x, np.maximum(stored, 0), axis=dim), 0)
    return x
