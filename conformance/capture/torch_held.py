"""What this process holds of a tensor in torch, as far as the tensor says it: a DTensor, Megatron's attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from conformance.capture.records import Runs
from conformance.capture.request import plain_mesh
from conformance.capture.writer import Part
from conformance.contract.mesh import Mesh
from conformance.contract.roles import role
from conformance.workers.torch_layout import held

ALONE = Mesh.parse("data=1")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The mesh, the process at each of its positions, and the position of this one."""

    mesh: Mesh
    order: tuple[int, ...]

    @property
    def position(self) -> int:
        return self.order.index(dist.get_rank() if dist.is_initialized() else 0)

    @property
    def is_last(self) -> bool:
        """Whether this process has the last stage of a pipeline, whose output is the model's."""
        where = self.mesh.coordinates(self.position)
        pipeline = [axis for axis in self.mesh.axes if role(axis, {}) == "pipeline"]
        return all(where[axis] == self.mesh.size(axis) - 1 for axis in pipeline)

    @classmethod
    def of(cls, given: Any) -> Ranks:
        """Raises ValueError, in one sentence, where the mesh is not that of all processes."""
        world = dist.get_world_size() if dist.is_initialized() else 1
        if given is None:
            if world > 1:
                raise ValueError(
                    f"{world} processes train here: give capture their mesh, for example mesh='data=2,...'."
                )
            return cls(mesh=ALONE, order=(0,))
        if isinstance(given, DeviceMesh):
            mesh, order = _named(given), tuple(torch.as_tensor(given.mesh).flatten().tolist())
        else:
            mesh = plain_mesh(given) or ALONE
            order = tuple(range(mesh.devices))
        if sorted(order) != list(range(world)):
            raise ValueError(f"The mesh {mesh} has {len(order)} ranks, but {world} processes train: give that of all.")
        return cls(mesh=mesh, order=order)


def _named(given: DeviceMesh) -> Mesh:
    if not given.mesh_dim_names:
        raise ValueError("The DeviceMesh has no names: give it mesh_dim_names, by which findings name an axis.")
    return Mesh(sizes=tuple(zip(given.mesh_dim_names, map(int, given.mesh.shape), strict=True)))


def part_of(value: torch.Tensor, ranks: Ranks) -> tuple[tuple[int, ...], Part | None]:
    """The whole shape, as far as it is known, and what lies here; None where nothing does.

    Raises Unreadable for a DTensor that waits for another reduction than a sum or an average.
    """
    value = value.detach()
    if not isinstance(value, DTensor):
        return tuple(value.shape), Part(position=ranks.position, shape=tuple(value.shape), content=content(value))
    share = held(value, ranks.mesh, order=ranks.order)
    local = value.to_local()
    if share is None:
        return tuple(value.shape), None
    local = local if share.factor == 1 else local * share.factor
    return tuple(value.shape), Part(
        position=ranks.position,
        shape=tuple(local.shape),
        content=content(local),
        index=[_runs(elements) for elements in share.index],
        partial=share.partial,
    )


def content(local: torch.Tensor) -> memoryview:
    """The bytes of a tensor, row by row, without a change of dtype."""
    flat = local.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def dtype_of(value: torch.Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _runs(elements: slice | np.ndarray) -> Runs:
    """As a few runs of elements that follow each other."""
    if isinstance(elements, slice):
        return [(elements.start, elements.stop)]
    pieces: Sequence[np.ndarray] = np.split(elements, np.flatnonzero(np.diff(elements) != 1) + 1)
    return [(int(piece[0]), int(piece[-1]) + 1) for piece in pieces if len(piece)]
