"""Blocks of a right value that lie on other ranks than they should: every rank the same one, or each another's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.blocks import CLOSE, Dims, is_trivial, on_all
from conformance.diagnosis.inside.matching import Matcher
from conformance.diagnosis.signatures.holders import whose
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
