"""What ranks hold of a tensor, in elements and bytes, and what its placements give them."""

from __future__ import annotations

import math

import ml_dtypes  # noqa: F401 - teaches numpy the names bfloat16 and float8
import numpy as np

from conformance.contract.mesh import Mesh
from conformance.contract.placements import Placements, is_held, local_index, sharded_dim
from conformance.evidence.blocks import place
from conformance.evidence.evidence import Observed

UNKNOWN_WIDTH = 8


def width(dtype: str) -> int:
    """Bytes of an element."""
    try:
        return np.dtype(dtype).itemsize
    except TypeError:
        return UNKNOWN_WIDTH


def elements(observed: Observed) -> dict[int, int]:
    """Rank -> elements that it stores, padding included; empty where that is not seen."""
    return {rank: size // width(observed.dtype) for rank, size in observed.stored_bytes.items()}


def shares(observed: Observed, placements: Placements, mesh: Mesh) -> dict[int, int]:
    """Rank -> the most elements that placements may give it.

    Law: what is divided over an axis of size k takes ceil(1/k) of a dim on each device, chunks padded to one size;
    who is left out by an owner (O) holds nothing.
    """
    stored = observed.stored_shape or observed.shape
    sizes = {
        rank: math.prod(part.stop - part.start for part in local_index(stored, placements, mesh, rank))
        for rank in range(mesh.devices)
        if is_held(placements, mesh, rank)
    }
    largest = max(sizes.values(), default=0)
    return {rank: largest if rank in sizes else 0 for rank in range(mesh.devices)}


def divided_over(placements: Placements, mesh: Mesh) -> tuple[str, ...]:
    """The axes, of more than one device, over which placements divide a tensor."""
    sharded = (axis for axis in mesh.axes if sharded_dim(placements.get(axis, "R")) is not None)
    return tuple(axis for axis in sharded if mesh.size(axis) > 1)


def replicated_over(observed: Observed, axis: str, mesh: Mesh) -> bool:
    """Whether all ranks along an axis hold the same elements of a tensor."""
    held = {rank: place(block) for block in observed.blocks for rank in block.ranks}
    groups = [{held.get(rank) for rank in group} for group in mesh.groups(axis)]
    return any(group != {None} for group in groups) and all(len(group) == 1 for group in groups)
