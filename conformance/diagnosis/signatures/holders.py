"""Whose shard a rank holds: in words, where it is not its own."""

from __future__ import annotations

from collections.abc import Mapping

from conformance.contract.mesh import Mesh


def whose(owners: Mapping[int, int], axis: str, mesh: Mesh) -> str | None:
    """In words, whose shard the ranks have: rank -> the place along the axis that it belongs to.

    None where all have their own, or where it follows from the place along no axis.
    """
    places = [mesh.coordinates(rank)[axis] for rank in owners]
    by_place = dict(zip(places, owners.values(), strict=True))
    order = [by_place[place] for place in sorted(by_place)]
    if all(by_place[place] == owner for place, owner in zip(places, owners.values(), strict=True)):
        if order == sorted(by_place):
            return None
        if len(set(order)) == 1:
            return f"every rank holds the shard of rank {order[0]} of {axis}"
        return f"shards permuted: ranks of {axis} hold those of {order}"
    for other in (name for name, size in mesh.sizes if size > 1 and name != axis):
        if all(mesh.coordinates(rank)[other] == owner for rank, owner in owners.items()):
            return f"the place along {other} is taken for that along {axis}: ranks hold the shard with that number"
    return None
