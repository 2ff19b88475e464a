"""Placements: per mesh axis a tensor is replicated (R), sharded (S(dim)), a partial sum (P), or owned by some (O).

O(0) says that only the devices with coordinate 0 on the axis own it, O(0,3) that those with 0 and with 3 have a copy
each: the parameters of a pipeline stage are placed so. People may write placements as text, which is read where it
comes in (`read_placements`); a method of theirs that returns text is understood too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from conformance.contract.errors import ShardproofError
from conformance.contract.mesh import Mesh

_SHARD = re.compile(r"S\((\d+)\)")
_OWNERS = re.compile(r"O\((\d+(?:,\d+)*)\)")


class PlacementError(ShardproofError, ValueError):
    """A placement that cannot be: the message is one sentence for the person who wrote it."""


@dataclass(frozen=True)
class Replicate:
    """Every device of the axis has the whole; it is written R."""

    def __str__(self) -> str:
        return "R"


@dataclass(frozen=True)
class Shard:
    """Each device of the axis has one chunk along a tensor dim; it is written S(dim)."""

    dim: int

    def __post_init__(self) -> None:
        if self.dim < 0:
            raise PlacementError(f"A tensor has no dim {self.dim} to be sharded along: dims are counted from 0.")

    def __str__(self) -> str:
        return f"S({self.dim})"


@dataclass(frozen=True)
class Partial:
    """Each device of the axis has one term of a sum that is still to be taken; it is written P."""

    def __str__(self) -> str:
        return "P"


@dataclass(frozen=True, init=False)
class Owned:
    """Only the devices at these coordinates of the axis have it, a copy each; it is written O(0) or O(0,3)."""

    coordinates: tuple[int, ...]  # ascending, each once

    def __init__(self, *coordinates: int) -> None:
        if not coordinates or min(coordinates) < 0:
            raise PlacementError("What is owned names the coordinates of its owners, each 0 or more.")
        object.__setattr__(self, "coordinates", tuple(sorted(set(coordinates))))

    def __str__(self) -> str:
        return f"O({','.join(map(str, self.coordinates))})"


Placement = Replicate | Shard | Partial | Owned
Placements = Mapping[str, Placement]  # by mesh axis; an axis that is not named is replicated


def read_placement(given: Placement | str) -> Placement:
    """A placement as it is, or read from its text. Raises PlacementError for anything else."""
    if isinstance(given, Placement):
        return given
    text = given if isinstance(given, str) else ""
    if text in ("R", "P"):
        return Replicate() if text == "R" else Partial()
    if match := _SHARD.fullmatch(text):
        return Shard(int(match.group(1)))
    if match := _OWNERS.fullmatch(text):
        return Owned(*map(int, match.group(1).split(",")))
    raise PlacementError(f"Unknown placement {given!r}: write R, P, S(dim) or O(coordinate), for example S(0) or O(2).")


def read_placements(given: Mapping[str, Placement] | Mapping[str, str]) -> Placements:
    """What somebody handed over for the axes of a mesh, each placement read. Raises PlacementError."""
    if not isinstance(given, Mapping):
        raise PlacementError(
            f"Placements are written by mesh axis, for example {{'tensor': 'S(0)'}}, not as {given!r}."
        )
    return {axis: read_placement(placement) for axis, placement in given.items()}


def written(placements: Placements) -> dict[str, str]:
    """The inverse of `read_placements`, for sentences and records."""
    return {axis: str(placement) for axis, placement in placements.items()}


def sharded_dim(given: Placement | str) -> int | None:
    """The dim of Shard(dim), None for the others. Raises PlacementError."""
    placement = read_placement(given)
    return placement.dim if isinstance(placement, Shard) else None


def is_held(placements: Placements, mesh: Mesh, rank: int) -> bool:
    """Whether a rank holds anything of a tensor: it is an owner on every axis that has owners."""
    where = mesh.coordinates(rank)
    owners = {axis: owner for axis, owner in read_placements(placements).items() if axis in mesh.axes}
    return all(where[axis] in owner.coordinates for axis, owner in owners.items() if isinstance(owner, Owned))


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
        dim = sharded_dim(placements.get(axis, Replicate()))
        if dim is not None:
            bounds[dim] = chunk(*bounds[dim], mesh.size(axis), where[axis])
    return tuple(slice(low, high) for low, high in bounds)


def partial_axes(placements: Placements) -> tuple[str, ...]:
    """The axes over which the tensor still waits for a sum."""
    return tuple(axis for axis, placement in read_placements(placements).items() if isinstance(placement, Partial))
