"""From rank sets to mesh axes: by the coordinates of the ranks, never by a name that stands in a text."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.traffic.collective_op import CollectiveOp, Ranks, UnattributedError


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one collective sends along one set of axes, on the device that sends most of it.

    axes           in mesh order
    whole          the groups take in every rank along the axes; a part of them where an axis was divided further
    payload_bytes  as in CollectiveOp
    wire_bytes     likewise
    """

    axes: tuple[str, ...]
    whole: bool
    payload_bytes: int
    wire_bytes: int


def shares(operation: CollectiveOp, mesh: Mesh) -> tuple[Share, ...]:
    """The axes along which a collective moves data; none where every rank stays alone.

    A permutation may move some blocks along one axis and others along two: it has a share for each set of axes.
    Raises UnattributedError for ranks that the mesh does not have.
    """
    _require_known(operation, mesh)
    if operation.kind == "permute":
        return _shares_of_pairs(operation, mesh)
    axes = moved(operation.groups, mesh)
    if not axes:
        return ()
    return (
        Share(
            axes=axes,
            whole=operation.size == math.prod(mesh.size(axis) for axis in axes),
            payload_bytes=operation.payload_bytes,
            wire_bytes=operation.wire_bytes,
        ),
    )


def _shares_of_pairs(operation: CollectiveOp, mesh: Mesh) -> tuple[Share, ...]:
    """A pair of a rank with itself sends nothing; a rank may send to several others."""
    sent: dict[tuple[str, ...], Counter[int]] = {}
    for source, target in operation.groups:
        if axes := moved(((source, target),), mesh):
            sent.setdefault(axes, Counter())[source] += operation.trips * operation.operand_bytes
    most = {axes: max(by_rank.values()) for axes, by_rank in sent.items()}
    return tuple(Share(axes=axes, whole=True, payload_bytes=size, wire_bytes=size) for axes, size in most.items())


def moved(groups: Ranks, mesh: Mesh) -> tuple[str, ...]:
    """The axes along which members of a group differ."""
    differing: set[str] = set()
    for size in {len(group) for group in groups if len(group) > 1}:
        ranks_GR = np.array([group for group in groups if len(group) == size])
        for axis, place_GR in zip(mesh.axes, np.unravel_index(ranks_GR, mesh.shape), strict=True):
            if (place_GR != place_GR[:, :1]).any():
                differing.add(axis)
    return tuple(axis for axis in mesh.axes if axis in differing)


def _require_known(operation: CollectiveOp, mesh: Mesh) -> None:
    strangers = sorted({rank for group in operation.groups for rank in group if not 0 <= rank < mesh.devices})
    if strangers:
        raise UnattributedError(
            f"An {operation.kind} ({operation.where or 'no place given'}) runs over rank {strangers[0]}, which the "
            f"mesh {mesh} of {mesh.devices} devices does not have."
        )
    if not operation.groups:
        raise UnattributedError(f"An {operation.kind} ({operation.where or 'no place given'}) names no ranks.")
