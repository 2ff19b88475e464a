"""Blocks of a right value that lie on other ranks than they should: every rank the same one, or each another's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.blocks import CLOSE, Dims, is_trivial, on_all
from conformance.diagnosis.matching import Matcher
from conformance.evidence.intermediates import Intermediate

MOST_DEVICES = 16  # of a mesh whose blocks are looked through


def displaced(value: Intermediate, matcher: Matcher, mesh: Mesh) -> tuple[str, str] | None:
    """(what is wrong, the axis) where every rank holds a block of a value of one device, and not its own."""
    held = on_all(value, mesh) if mesh.devices <= MOST_DEVICES else None
    if held is None or any(map(is_trivial, held.values())):
        return None
    for whole, dims in matcher.in_blocks_of(held[0].shape, uneven=True):
        for axis, _ in dims:
            owners = _owner_of_each(value, matcher, mesh, (whole, dims), axis)
            words = None if owners is None else whose(owners, axis, mesh)
            if words is not None:
                return words, axis
    return None


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


def _owner_of_each(
    value: Intermediate, matcher: Matcher, mesh: Mesh, of: tuple[Intermediate, Dims], axis: str
) -> dict[int, int] | None:
    """Per rank, which place of its group along the axis has the block that it holds; None if it is nobody's."""
    owners: dict[int, int] = {}
    for group in mesh.groups(axis):
        blocks = [matcher.block(*of, rank) for rank in group]
        for rank in group:
            owner = next(_owners(value.values[rank], blocks), None)
            if owner is None:
                return None
            owners[rank] = owner
    return owners


def _owners(held: np.ndarray, blocks: list[np.ndarray]) -> Iterator[int]:
    """The places whose block this is; what fills the last one up may be anything."""
    slack = CLOSE * max(float(np.nanmax(np.abs(block))) for block in blocks)
    for place, block in enumerate(blocks):
        known = ~np.isnan(block)
        if block.shape == held.shape and known.any() and float(np.abs(block - held)[known].max()) <= slack:
            yield place
