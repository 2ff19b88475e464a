"""The training step on a mesh whose axes are of several types.

Explicit axes stand in the type of every array, `float32[8@data,16]`: a mismatch is an error while tracing, and a sum
over a divided dim must say where its result lies ("explicit sharding"). Automatic ones are left to the partitioner.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from conformance.contract.implementation import Unsupported
from conformance.contract.placements import Placements, sharded_dim
from suites.training.jax.automatic import AutomaticTraining
from suites.training.jax.state import Named


class TypedAxes(AutomaticTraining):
    """The program of one device; `explicit` are the axes of that type, all others are automatic."""

    explicit: ClassVar[tuple[str, ...]]

    def require_supported(self) -> None:
        """Neither explicit nor manual axes divide a dim unevenly."""
        super().require_supported()
        self.require_whole_rows(self.contract.batch_shapes["mask"][0])
        for name, shape in self.contract.shapes.items():
            for axis, placement in self.placements(name).items():
                dim = sharded_dim(placement)
                if dim is not None and shape[dim] % self.size((axis,)):
                    raise Unsupported(f"JAX does not divide dim {dim} of '{name}', {shape[dim]}, over {axis} unevenly.")

    def settle(self, mesh: Any) -> None:
        super().settle(mesh)
        types = tuple(AxisType.Explicit if axis in self.explicit else AxisType.Auto for axis in mesh.axis_names)
        self.device_mesh = jax.sharding.Mesh(mesh.devices, mesh.axis_names, axis_types=types)

    def step(self, state: dict, batch: dict[str, Any]) -> Any:
        explicit = {key: self.explicitly(self.batch_placements(key)) for key in batch}
        with jax.set_mesh(self.device_mesh):
            placed = {key: jax.device_put(value, explicit[key]) for key, value in batch.items()}
            return super().step(state, placed)

    def no_gradients(self, parameters: Named) -> Named:
        """As the parameters lie: on explicit axes that is a part of the type."""
        lies = {name: self.explicitly(self.placements(name)) for name in parameters}
        return {name: jax.sharding.reshard(x, lies[name]) for name, x in super().no_gradients(parameters).items()}

    def constrain(self, x: jax.Array, placements: Placements) -> jax.Array:
        """An explicit axis is resharded over, an automatic one annotated."""
        x = jax.sharding.reshard(x, self.explicitly(placements)) if self.explicit else x
        annotated = self.spec({axis: p for axis, p in placements.items() if axis not in self.explicit})
        return jax.lax.with_sharding_constraint(x, annotated) if any(annotated) else x

    def explicitly(self, placements: Placements) -> NamedSharding:
        spec = self.spec({axis: p for axis, p in placements.items() if axis in self.explicit})
        return NamedSharding(self.device_mesh, spec if spec is not None else PartitionSpec())
