"""What both JAX styles share: the placement of state and batch on the devices, and how observations are returned."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from conformance.contract.implementation import Packed, Reordered
from conformance.contract.placements import Placements, Replicate, sharded_dim
from reference.jax.rounding import rounded
from suites.training.state_layout import Positions, ShardedTraining, arrange

Named = dict[str, jax.Array]
Value = TypeVar("Value", jax.Array, Packed)


class JaxTraining(ShardedTraining):
    """A training step whose state is {parameters, optimizer, count}: sharded arrays, as they are stored."""

    framework = "jax"
    device_mesh: jax.sharding.Mesh

    @property
    def weight_per_token(self) -> int:
        """Loss elements per valid token: the loss is divided by the number of valid elements."""
        return 1

    @property
    @abstractmethod
    def program(self) -> Callable[[dict, Named], tuple[dict, Named]]:
        """The compiled step: (state, batch) -> (new state, observations). Compiled once per instance."""

    # The protocol.

    def place(self, parameters: dict[str, np.ndarray], mesh: Any) -> dict:
        self.settle(mesh)
        return self.laid_out(self.state(parameters))

    def settle(self, mesh: Any) -> None:
        """Sets the device mesh that all later calls use."""
        self.require_supported()
        automatic = (AxisType.Auto,) * mesh.devices.ndim
        self.device_mesh = jax.sharding.Mesh(mesh.devices, mesh.axis_names, axis_types=automatic)

    def state(self, parameters: Mapping[str, np.ndarray]) -> dict:
        """The state before the first step, canonical: the master copy of the parameters if there is one, zeros."""
        wide = {name: parameters[name].astype(self.master) for name in self.stored_names}
        zeros = {name: np.zeros_like(array) for name, array in wide.items()}
        slots = dict.fromkeys(self.zero_slots, zeros)
        slots |= {"master": wide} if self.master_dtype else {}
        stored = {name: array.astype(self.stored_dtype) for name, array in wide.items()}
        return {"parameters": stored, "optimizer": slots, "count": np.zeros((), np.int32)}

    def laid_out(self, state: dict) -> dict:
        """A canonical state as it is stored, on its devices."""
        stored = {name: arrange(array, self.positions(name)) for name, array in state["parameters"].items()}
        slots = {
            slot: {name: arrange(array, self.slot_positions(name)) for name, array in values.items()}
            for slot, values in state["optimizer"].items()
        }
        shardings = jax.tree.map(lambda spec: NamedSharding(self.device_mesh, spec), self.state_specs())
        return jax.device_put({**state, "parameters": stored, "optimizer": slots}, shardings)

    def step(self, state: dict, batch: dict[str, Any]) -> tuple[dict, Mapping[str, Any]]:
        self.require_whole_rows(len(batch["mask"]))
        state, observations = self.program(state, batch)
        return state, {name: arranged(value, self.observed_positions(name)) for name, value in observations.items()}

    def observed_positions(self, name: str) -> Positions:
        """Order in which an observation of the step leaves the program."""
        kind, _, parameter = name.partition("/")
        if kind == "batch":
            return {}  # it is shown as it arrives
        return self.gradient_positions(parameter) if kind == "gradients" else self.observation_positions(name)

    def collect(self, state: dict) -> Mapping[str, Any]:
        collected = {f"parameters/{name}": arranged(p, self.positions(name)) for name, p in state["parameters"].items()}
        for slot, values in state["optimizer"].items():
            collected |= {
                f"optimizer/{slot}/{name}": arranged(value, self.slot_positions(name)) for name, value in values.items()
            }
        return collected | {"optimizer/count": state["count"]}

    # Dtypes, sizes and specs.

    @property
    def stored_names(self) -> tuple[str, ...]:
        """The names under which parameters and slots are stored: those of the contract, in its order."""
        return tuple(self.contract.shapes)

    @property
    def master(self) -> str:
        """Dtype of the optimizer and its slots, of statistics and losses."""
        return "float64" if self.dtype == "float64" else "float32"

    @property
    def compute(self) -> str:
        """Dtype of activations and of the parameters that meet them."""
        return self.contract.recipe.precision.dtype("compute", self.dtype)

    def round_gradient(self, g: jax.Array) -> jax.Array:
        """A gradient in the dtype in which gradients are kept."""
        return rounded(g, self.gradient_dtype)

    def reduced(self, g: jax.Array, sum: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """A gradient summed over devices, in the dtype that is declared for that."""
        return self.round_gradient(sum(rounded(g, self.reduction_dtype)))

    def active(self, axes: tuple[str, ...]) -> tuple[str, ...]:
        """The axes with more than one device."""
        return tuple(axis for axis in axes if self.mesh.size(axis) > 1)

    def spec(self, placements: Placements) -> PartitionSpec:
        """Placements -> dim by dim the axes of this mesh that shard it."""
        dims: dict[int, tuple[str, ...]] = {}
        for axis in self.mesh.axes:
            dim = sharded_dim(placements.get(axis, Replicate()))
            if dim is not None:
                dims[dim] = (*dims.get(dim, ()), axis)
        return PartitionSpec(*(dims.get(dim) for dim in range(max(dims, default=-1) + 1)))

    def parameter_specs(self) -> dict[str, PartitionSpec]:
        return {name: self.spec(self.placements(name)) for name in self.stored_names}

    def gradient_specs(self) -> dict[str, PartitionSpec]:
        return {name: self.spec(self.gradient_placements(name)) for name in self.stored_names}

    def state_specs(self) -> dict[str, Any]:
        specs = {name: self.spec(self.slot_placements(name)) for name in self.stored_names}
        slots = dict.fromkeys(self.slot_names, specs)
        return {"parameters": self.parameter_specs(), "optimizer": slots, "count": PartitionSpec()}


def arranged(value: Value, positions: Positions) -> Value | Reordered:
    """Wrap a value in `Reordered` unless its stored order is canonical."""
    if not positions:
        return value
    shape = tuple(int(positions[dim].max()) + 1 if dim in positions else n for dim, n in enumerate(value.shape))
    return Reordered(value=value, shape=shape, index_map=positions)


def pad_to_multiple(x: jax.Array, dim: int, parts: int) -> jax.Array:
    """Append zeros along dim until it divides into equal parts."""
    missing = -x.shape[dim] % parts
    widths = [(0, missing if d == dim % x.ndim else 0) for d in range(x.ndim)]
    return jnp.pad(x, widths) if missing else x


def reordered(x: jax.Array, positions: Positions) -> jax.Array:
    """Canonical array -> as it is sharded: permuted along some dims, zero where padded."""
    for dim, stored in positions.items():
        real = np.expand_dims(stored >= 0, tuple(d for d in range(x.ndim) if d != dim))
        x = jnp.where(real, jnp.take(x, np.maximum(stored, 0), axis=dim), 0)
    return x
