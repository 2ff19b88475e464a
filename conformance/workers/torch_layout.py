"""DTensors as they lie: what this rank holds, by its place in the DTensor's own mesh, whatever that calls its axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor, Partial, Replicate

from conformance.contract.mesh import Mesh
from conformance.contract.placements import chunk
from conformance.contract.roles import role
from conformance.evidence.evidence import Index
from conformance.workers.observe import Unreadable

SUMS = ("sum", "avg")  # an average of n is a sum of parts, each divided by n


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a rank holds of a DTensor: canonical elements per dim, axes of the case that wait for a sum, a factor."""

    index: Index
    partial: tuple[str, ...]
    factor: float


def held(
    value: DTensor,
    mesh: Mesh,
    coordinate: Sequence[int] | None = None,
    order: Sequence[int] | None = None,
) -> Held | None:
    """None where this rank has no part in the DTensor. Raises Unreadable for a partial value that cannot be spoken.

    `coordinate` is the place in the DTensor's mesh, that of this process unless it is given; `order` the process at
    each position of the mesh, where that is not the mesh's own device order.
    """
    where = value.device_mesh.get_coordinate() if coordinate is None else coordinate
    if where is None:
        return None
    index, partial, factor = [np.arange(size) for size in value.shape], [], 1.0
    for dim, placement in enumerate(value.placements):
        parts, part = value.device_mesh.size(dim), where[dim]
        if isinstance(placement, Partial):
            processes = mesh.device_order if order is None else order
            partial += _summed_over(value.device_mesh, dim, placement, mesh, where, processes)
            factor /= parts if placement.reduce_op == "avg" else 1
        elif not isinstance(placement, Replicate):
            index[_dim(placement)] = _share(index[_dim(placement)], placement, parts, part)
    return Held(index=tuple(map(_as_slice, index)), partial=tuple(partial), factor=factor)


def _dim(placement: Any) -> int:
    dim = getattr(placement, "dim", None)
    if dim is None:
        raise Unreadable(f"its DTensor placement {placement} is not one of Replicate, Shard and Partial")
    return int(dim)


def _share(elements: np.ndarray, placement: Any, parts: int, part: int) -> np.ndarray:
    """The part of the elements that a Shard or a _StridedShard gives.

    A _StridedShard(dim, split_factor) is what remains to be said where a later mesh dim was divided first: each of
    split_factor chunks is divided among the parts (torch.distributed.tensor.placement_types).
    """
    factor = int(getattr(placement, "split_factor", 1))
    pieces = [elements[slice(*chunk(0, len(elements), factor, number))] for number in range(factor)]
    return np.concatenate([piece[slice(*chunk(0, len(piece), parts, part))] for piece in pieces])


def _summed_over(
    own: Any, dim: int, placement: Partial, mesh: Mesh, at: Sequence[int], order: Sequence[int]
) -> list[str]:
    """The axes of the case along which the ranks of this dim differ, which they must cover."""
    if own.size(dim) == 1:
        return []
    name = (own.mesh_dim_names or {})[dim] if own.mesh_dim_names else str(dim)
    if placement.reduce_op not in SUMS:
        raise Unreadable(
            f"it waits for a reduction '{placement.reduce_op}' over axis '{name}' of its DeviceMesh: only sums and "
            "averages can be completed here, so redistribute it first"
        )
    places = [mesh.coordinates(order.index(process)) for process in _line(own, dim, at)]
    differ = [axis for axis in mesh.axes if len({place[axis] for place in places}) > 1]
    if np.prod([mesh.size(axis) for axis in differ]) != own.size(dim):
        raise Unreadable(
            f"it is a partial sum over axis '{name}' of a DeviceMesh of its own, whose {own.size(dim)} ranks are not "
            f"all those along {' and '.join(differ)} of the mesh {mesh}: redistribute it first"
        )
    return differ


def _line(own: Any, dim: int, through: Sequence[int]) -> Sequence[int]:
    """The processes along a dim of a DeviceMesh through a place."""
    where = [slice(None) if number == dim else at for number, at in enumerate(through)]
    return torch.as_tensor(own.mesh)[tuple(where)].tolist()


def _as_slice(elements: np.ndarray) -> slice | np.ndarray:
    """Elements that follow each other as a slice."""
    if not len(elements):
        return slice(0, 0)
    first, last = int(elements[0]), int(elements[-1])
    return slice(first, last + 1) if np.array_equal(elements, np.arange(first, last + 1)) else elements


def megatron(value: torch.Tensor, mesh: Mesh) -> dict[str, str] | None:
    """Placements from the attributes that Megatron's layers put on their parameters; None where there are none."""
    if not hasattr(value, "tensor_model_parallel"):
        return None
    axes = [axis for axis in mesh.axes if role(axis, {}) == "tensor"]
    if not value.tensor_model_parallel or not axes:
        return {}
    return {axes[0]: f"S({int(getattr(value, 'partition_dim', 0))})"}
