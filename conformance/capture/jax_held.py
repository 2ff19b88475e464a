"""What the devices of this process hold of an array in JAX: its shards, by their places on the mesh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from conformance.capture.request import plain_mesh
from conformance.capture.writer import Part
from conformance.contract.mesh import Mesh

ALONE = Mesh.parse("data=1")


@dataclass(frozen=True, kw_only=True)
class Devices:
    """The mesh, and the position on it of each device by its id; `own` are those of this process."""

    mesh: Mesh
    position: dict[int, int]
    own: tuple[int, ...]

    @classmethod
    def of(cls, given: Any) -> Devices:
        """Raises ValueError, in one sentence, for a mesh that is not that of all processes."""
        if isinstance(given, jax.sharding.Mesh):
            mesh = Mesh(sizes=tuple((str(axis), int(size)) for axis, size in given.shape.items()))
            devices = list(given.devices.flat)
        else:
            mesh = ALONE if given is None else plain_mesh(given) or ALONE
            devices = jax.devices()[: mesh.devices]
        if len(devices) != mesh.devices:
            raise ValueError(f"The mesh {mesh} has {mesh.devices} devices, and here are {len(devices)}.")
        here = jax.process_index()
        own = tuple(position for position, device in enumerate(devices) if device.process_index == here)
        if not own:
            raise ValueError(f"Process {here} has no device of the mesh {mesh}: give the mesh of all processes.")
        return cls(mesh=mesh, position={device.id: n for n, device in enumerate(devices)}, own=own)


def parts_of(value: Any, devices: Devices) -> tuple[str, tuple[int, ...], list[Part]]:
    """Dtype, whole shape and the shards of this process; what is no array on the mesh is whole, on its first device."""
    if isinstance(value, jax.Array) and all(shard.device.id in devices.position for shard in value.addressable_shards):
        shards = [(devices.position[shard.device.id], shard) for shard in value.addressable_shards]
        parts = [_part(position, np.asarray(shard.data), _index(shard, value.shape)) for position, shard in shards]
        return np.dtype(value.dtype).name, tuple(value.shape), parts
    array = np.asarray(value)
    whole = [[(0, size)] for size in array.shape]
    return array.dtype.name, array.shape, [_part(devices.own[0], array, whole)]


def _part(position: int, local: np.ndarray, index: list[list[tuple[int, int]]]) -> Part:
    content = np.ascontiguousarray(local).reshape(-1).view(np.uint8).data
    return Part(position=position, shape=local.shape, content=content, index=index)


def _index(shard: Any, shape: tuple[int, ...]) -> list[list[tuple[int, int]]]:
    bounds = (part.indices(size)[:2] for part, size in zip(shard.index, shape, strict=True))
    return [[(start, stop)] for start, stop in bounds]
