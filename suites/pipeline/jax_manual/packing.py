"""Stages of different shapes in one program: each device keeps the parameters of its stages in one vector.

P: ranks of the pipeline axis  T: devices of the tensor axis  L: length of a vector
The program is the same on all devices, so that their vectors must be of one length: the longest one's. Everything that
is done element by element (sums over devices, clipping, the optimizer) is done on whole vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from conformance.contract.implementation import Packed, Reordered
from conformance.contract.placements import Placements, local_index
from suites.pipeline.jax_manual.vector import Vector
from suites.pipeline.stages import Stages
from suites.training.jax.manual import ShardMapTraining
from suites.training.jax.state import Named, arranged
from suites.training.state_layout import Positions, arrange

PACKED = "packed"  # the name of the one vector


class PackedTraining(Stages, ShardMapTraining):
    """A training step whose state is one vector per device."""

    # Where a parameter lies.

    @cached_property
    def stored_vector(self) -> Vector:
        """The layout of parameters, optimizer slots and reduced gradients."""
        return self.vector(self.placements, self.positions)

    @cached_property
    def computed_vector(self) -> Vector:
        """The layout of the parameters that stages compute with."""
        return self.stored_vector

    def vector(self, placements: Callable[[str], Placements], positions: Callable[[str], Positions]) -> Vector:
        def block(name: str) -> tuple[int, ...]:
            stored = self.arranged_shape(name, positions(name))
            return tuple(part.stop - part.start for part in local_index(stored, placements(name), self.mesh, 0))

        shapes = {name: block(name) for name in self.contract.shapes}
        return Vector(shapes=shapes, ranks=tuple(map(self.rank_parameters, range(self.ranks))))

    def own_elements(self, wanted: Callable[[str], bool]) -> jax.Array:
        """[L]: whether an element of this device's vector belongs to a parameter of one of these names."""
        return jnp.asarray(self.stored_vector.elements(wanted))[self.pipeline_rank()]

    def weight_decay(self, name: str) -> Any:
        """Of every element of a vector; one number where all are decayed."""
        decay = super().weight_decay
        if self.contract.recipe.decays == "all":
            return decay(name)
        return self.contract.recipe.weight_decay * self.own_elements(lambda parameter: decay(parameter) != 0)

    def pipeline_rank(self) -> jax.Array | int:
        return jax.lax.axis_index(self.pipeline_axis) if self.ranks > 1 else 0

    def on_own_rank(self, function: Callable[..., Any], *operands: Any) -> Any:
        """`function(rank, *operands)`, traced for every rank, of which each device runs its own."""
        branches = [lambda *given, rank=rank: function(rank, *given) for rank in range(self.ranks)]
        return jax.lax.switch(self.pipeline_rank(), branches, *operands)

    # State: canonical <-> packed.

    @property
    def pack_axes(self) -> tuple[str, ...]:
        """The axes along which vectors differ, in mesh order."""
        return tuple(axis for axis in self.mesh.axes if axis in (self.pipeline_axis, *self.model_axes))

    def packed_spec(self) -> PartitionSpec:
        return PartitionSpec(*self.pack_axes)

    def state_specs(self) -> dict[str, Any]:
        vector = {PACKED: self.packed_spec()}
        return {"parameters": vector, "optimizer": dict.fromkeys(self.slot_names, vector), "count": PartitionSpec()}

    def gradient_specs(self) -> dict[str, PartitionSpec]:
        return {PACKED: self.packed_spec()}

    def laid_out(self, state: dict) -> dict:
        slots = {slot: {PACKED: self.packed(values)} for slot, values in state["optimizer"].items()}
        parameters = {PACKED: self.packed(state["parameters"])}
        shardings = jax.tree.map(lambda spec: NamedSharding(self.device_mesh, spec), self.state_specs())
        return jax.device_put({**state, "parameters": parameters, "optimizer": slots}, shardings)

    def packed(self, canonical: Mapping[str, np.ndarray]) -> np.ndarray:
        """Canonical parameters -> the vectors of all devices, one dim per packed axis and then L."""
        dtype = next(iter(canonical.values())).dtype
        sizes = [self.mesh.size(axis) for axis in self.pack_axes]
        vectors = np.zeros((*sizes, self.stored_vector.length), dtype)
        stored = {name: arrange(value, self.positions(name)) for name, value in canonical.items()}
        for device in range(self.mesh.devices):
            where = self.mesh.coordinates(device)
            vector = vectors[tuple(where[axis] for axis in self.pack_axes)]
            for name, start in self.stored_vector.starts[where.get(self.pipeline_axis, 0)].items():
                index = local_index(stored[name].shape, self.placements(name), self.mesh, device)
                vector[start : start + self.stored_vector.size(name)] = stored[name][index].reshape(-1)
        return vectors

    def wholes(self, values: Named) -> Iterator[tuple[str, np.ndarray]]:
        """The inverse of `packed`, but for the canonical order: what the vectors hold, one parameter at a time."""
        vectors = self.whole(values[PACKED])
        for name in self.contract.shapes:
            yield name, self.unpacked(name, vectors)

    def unpacked(self, name: str, vectors: np.ndarray) -> np.ndarray:
        """A parameter from the vectors of the devices of one rank that holds it."""
        whole = np.zeros(self.arranged_shape(name, self.positions(name)), vectors.dtype)
        rank, size = self.writer(name), self.stored_vector.size(name)
        start = self.stored_vector.starts[rank][name]
        for device in range(self.mesh.devices):
            where = self.mesh.coordinates(device)
            if where.get(self.pipeline_axis, 0) == rank:
                index = local_index(whole.shape, self.placements(name), self.mesh, device)
                vector = vectors[tuple(where[axis] for axis in self.pack_axes)]
                whole[index] = vector[start : start + size].reshape(whole[index].shape)
        return whole

    def collect(self, state: dict) -> Mapping[str, Any]:
        collected = dict(self.named("parameters", state["parameters"][PACKED]))
        for slot, values in state["optimizer"].items():
            collected |= dict(self.named(f"optimizer/{slot}", values[PACKED]))
        return collected | {"optimizer/count": state["count"]}

    def named(self, prefix: str, vectors: jax.Array) -> Iterator[tuple[str, Packed | Reordered]]:
        """What the vectors hold, by name."""
        for name in self.contract.shapes:
            yield f"{prefix}/{name}", self.piece(name, vectors)

    def piece(self, name: str, vectors: jax.Array) -> Packed | Reordered:
        shape = self.arranged_shape(name, self.positions(name))
        start = self.stored_vector.starts[self.owners[name][0]][name]
        packed = Packed(
            value=vectors,
            start=start,
            size=self.stored_vector.size(name),
            placements=self.placements(name),
            shape=shape,
        )
        return arranged(packed, self.positions(name))
