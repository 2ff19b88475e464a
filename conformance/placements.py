"""Placements: per mesh axis a tensor is replicated (R), sharded along a dim (S(dim)) or a partial sum (P)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from conformance.mesh import Mesh

Placements = Mapping[str, str]  # axis -> "R", "S(0)", "P"; an axis that is not named is R
_SHARD = re.compile(r"S\((\d+)\)")


def sharded_dim(placement: str) -> int | None:
    """The dim of `S(dim)`; None for R and P. Raises ValueError for anything else."""
    if placement in ("R", "P"):
        return None
    match = _SHARD.fullmatch(placement)
    if match is None:
        raise ValueError(f"Unknown placement '{placement}': write R, P or S(dim), for example S(0).")
    return int(match.group(1))


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
