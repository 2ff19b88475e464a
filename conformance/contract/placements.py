"""Placements: per mesh axis a tensor is replicated (R), sharded (S(dim)), a partial sum (P), or owned by some (O).

O(0) says that only the devices with coordinate 0 on the axis own it, O(0,3) that those with 0 and with 3 have a copy
each: the parameters of a pipeline stage are placed so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from conformance.contract.mesh import Mesh

Placements = Mapping[str, str]  # axis -> "R", "S(0)", "P", "O(0)"; an axis that is not named is R
_SHARD = re.compile(r"S\((\d+)\)")
_OWNERS = re.compile(r"O\((\d+(?:,\d+)*)\)")


def sharded_dim(placement: str) -> int | None:
    """The dim of `S(dim)`; None for R, P and O(...). Raises ValueError for anything else."""
    if placement in ("R", "P") or _OWNERS.fullmatch(placement):
        return None
    match = _SHARD.fullmatch(placement)
    if match is None:
        raise ValueError(
            f"Unknown placement '{placement}': write R, P, S(dim) or O(coordinate), for example S(0) or O(2)."
        )
    return int(match.group(1))


def owned_by(*coordinates: int) -> str:
    """The placement of what only these coordinates of an axis hold."""
    return f"O({','.join(map(str, sorted(set(coordinates))))})"


def is_held(placements: Placements, mesh: Mesh, rank: int) -> bool:
    """Whether a rank holds anything of a tensor: it is an owner on every axis that has owners."""
    where = mesh.coordinates(rank)
    owners = {axis: _OWNERS.fullmatch(placements.get(axis, "R")) for axis in mesh.axes}
    return all(where[axis] in map(int, match.group(1).split(",")) for axis, match in owners.items() if match)


def holders(shape: tuple[int, ...], placements: Placements, mesh: Mesh) -> tuple[int, ...]:
    """The ranks that hold at least one element of a tensor; of an empty tensor, all that are named."""
    named = [rank for rank in range(mesh.devices) if is_held(placements, mesh, rank)]
    if 0 in shape:
        return tuple(named)
    return tuple(
        rank for rank in named if all(part.stop > part.start for part in local_index(shape, placements, mesh, rank))
    )


def chunk(start: int, stop: int, parts: int, part: int) -> tuple[int, int]:
    """The part-th of `parts` chunks of [start, stop): all ceil(n / parts) long, the last ones shorter or empty."""
    width = -(-(stop - start) // parts)
    low = min(start + part * width, stop)
    return low, min(low + width, stop)


def local_index(shape: tuple[int, ...], placements: Placements, mesh: Mesh, rank: int) -> tuple[slice, ...]:
    """The block of a global tensor that a rank holds; axes that shard the same dim nest in mesh order."""
    bounds = [(0, size) for size in shape]
    where = mesh.coordinates(rank)
    for axis in mesh.axes:
        dim = sharded_dim(placements.get(axis, "R"))
        if dim is not None:
            bounds[dim] = chunk(*bounds[dim], mesh.size(axis), where[axis])
    return tuple(slice(low, high) for low, high in bounds)


def partial_axes(placements: Placements) -> tuple[str, ...]:
    """The axes over which the tensor still waits for a sum."""
    return tuple(axis for axis, placement in placements.items() if placement == "P")
