"""A right value whose elements lie in another order along a dim, on all ranks or on some of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.blocks import CLOSE, on_all
from conformance.diagnosis.inside.matching import Matcher
from conformance.evidence.intermediates import Intermediate

MOST_PLACES = 256  # of a dim whose order is looked for


def rearranged(
    value: Intermediate, operands: Sequence[Intermediate], matcher: Matcher, mesh: Mesh
) -> tuple[str, str | None] | None:
    """(what is wrong, the axis along which some ranks are right) where only the order of elements is another one.

    operands   which are right, so that their order is too
    """
    held = on_all(value, mesh)
    if held is None:
        return None
    shape = held[0].shape
    whole = (blocks for blocks in (on_all(operand, mesh) for operand in operands) if blocks is not None)
    alike = (blocks for blocks in whole if blocks[0].shape == shape)
    wholes = ({rank: matcher.block(*of, rank) for rank in held} for of in matcher.in_blocks_of(shape))
    for wanted in chain(alike, wholes):
        for dim, size in enumerate(shape if len(wanted) == mesh.devices else ()):
            if 1 < size <= MOST_PLACES:
                changed = _changed(held, wanted, dim)
                if changed:
                    return _words(changed, dim, mesh)
    return None


def _changed(held: Mapping[int, np.ndarray], wanted: Mapping[int, np.ndarray], dim: int) -> list[int]:
    """Ranks whose elements are in another order along the dim; none where some rank holds other elements."""
    changed = []
    for rank, block in wanted.items():
        order = _order(np.moveaxis(held[rank], dim, 0), np.moveaxis(block, dim, 0))
        if order is None:
            return []
        if not np.array_equal(order, np.arange(len(order))):
            changed.append(rank)
    return changed


def _order(held: np.ndarray, wanted: np.ndarray) -> np.ndarray | None:
    """For each place whose wanted slice lies there; None where that is not so."""
    slack = CLOSE * float(np.abs(wanted).max())
    flat_held, flat_wanted = held.reshape(len(held), -1), wanted.reshape(len(wanted), -1)
    if float(np.abs(flat_held - flat_wanted).max()) <= slack:
        return np.arange(len(held))
    direction = np.random.default_rng(0).normal(size=flat_held.shape[1])
    order = np.empty(len(held), dtype=int)
    order[np.argsort(flat_held @ direction, kind="stable")] = np.argsort(flat_wanted @ direction, kind="stable")
    return order if float(np.abs(flat_held - flat_wanted[order]).max()) <= slack else None


def _words(changed: Iterable[int], dim: int, mesh: Mesh) -> tuple[str, str | None]:
    """On all ranks, on some places along one axis, or on ranks that no axis tells apart."""
    ranks = set(changed)
    words = f"elements permuted along dim {dim}"
    if len(ranks) == mesh.devices:
        return words, None
    for axis, size in mesh.sizes:
        places = sorted({mesh.coordinates(rank)[axis] for rank in ranks})
        alike = {rank for rank in range(mesh.devices) if mesh.coordinates(rank)[axis] in places}
        if len(places) < size and alike == ranks:
            return f"{words} on positions {places}", axis
    return f"{words} on ranks {sorted(ranks)}", None
