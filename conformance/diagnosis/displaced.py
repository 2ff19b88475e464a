"""Blocks of a right value that lie on other ranks than they should: every rank the same one, or each another's."""

from __future__ import annotations

from collections.abc import Iterator

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
            places = _places(value, matcher, mesh, (whole, dims), axis)
            if places is not None and places != list(range(mesh.size(axis))):
                return _words(places, axis), axis
    return None


def _places(
    value: Intermediate, matcher: Matcher, mesh: Mesh, of: tuple[Intermediate, Dims], axis: str
) -> list[int] | None:
    """Per place along the axis, whose block lies there, if that is the same in all groups; None if it is nobody's."""
    places: dict[int, int] = {}
    for group in mesh.groups(axis):
        blocks = [matcher.block(*of, rank) for rank in group]
        for place, rank in enumerate(group):
            owner = next(_owners(value.values[rank], blocks), None)
            if owner is None or places.setdefault(place, owner) != owner:
                return None
    return [places[place] for place in range(mesh.size(axis))]


def _owners(held: np.ndarray, blocks: list[np.ndarray]) -> Iterator[int]:
    """The places whose block this is; what fills the last one up may be anything."""
    slack = CLOSE * max(float(np.nanmax(np.abs(block))) for block in blocks)
    for place, block in enumerate(blocks):
        known = ~np.isnan(block)
        if block.shape == held.shape and known.any() and float(np.abs(block - held)[known].max()) <= slack:
            yield place


def _words(places: list[int], axis: str) -> str:
    if len(set(places)) == 1:
        return f"every rank uses the shard of rank {places[0]} of {axis}"
    return f"shards permuted: ranks of {axis} use those of {places}"
