"""Which mesh axes the collectives of a compiled program span, read from the text of its HLO."""

from __future__ import annotations

from conformance.contract.mesh import Mesh
from conformance.traffic.axes import moved
from conformance.traffic.hlo_groups import all_groups


def spanned_axes(text: str, mesh: Mesh) -> frozenset[str]:
    """The axes along which devices of one group, or a sender and its receiver, lie apart.

    Devices are numbered as in the mesh. A program for one device has no collectives, and spans none.
    """
    spanned: set[str] = set()
    for groups in all_groups(text, mesh.devices):
        spanned.update(moved(tuple(tuple(rank for rank in group if rank < mesh.devices) for group in groups), mesh))
    return frozenset(spanned)
