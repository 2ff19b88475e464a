"""Placing: which elements of the recorded run's tensor each device of a captured run holds.

In this order: what the array says itself, what somebody said of it, the rows of the batch that a rank was given, and
what the shapes leave as the only answer. Where they leave several, one sentence asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from conformance.capture.pieces import Piece
from conformance.cases.usage import UsageError
from conformance.contract.mesh import Mesh
from conformance.contract.placements import Placements, Shard, local_index, partial_axes
from conformance.evidence.blocks import merged
from conformance.evidence.evidence import Block, Index, Observed

Rows = Mapping[tuple[int, int], np.ndarray]  # (position, forward call) -> the rows of the step's batch
Shape = tuple[int, ...]


def placed(pieces: Sequence[Piece], shape: Shape, mesh: Mesh, rows: Rows) -> Observed:
    """One tensor of one moment on all devices. Raises UsageError in one sentence where a block has no one place."""
    first = pieces[0]
    if any(piece.value.ndim != len(shape) for piece in pieces):
        return Observed(shape=first.value.shape, dtype=first.dtype, blocks=())
    pieces = [piece if piece.placements is None else _as_said(piece, shape, mesh) for piece in pieces]
    pieces = [_in_batch(piece, shape, rows) for piece in pieces]
    pieces = _inferred(pieces, shape, mesh)
    blocks = [_block(group) for group in _by_position(pieces) if group[0].value.size or 0 in shape]
    stored: dict[int, int] = {}
    for piece in pieces:
        stored[piece.position] = stored.get(piece.position, 0) + piece.value.nbytes
    return Observed(shape=shape, dtype=first.dtype, blocks=merged(blocks), stored_bytes=stored)


def _as_said(piece: Piece, shape: Shape, mesh: Mesh) -> Piece:
    """By placements that somebody gave; a dim along which they say nothing is left open."""
    assert piece.placements is not None
    share = local_index(shape, piece.placements, mesh, piece.position)
    partial = (*piece.partial, *partial_axes(piece.placements))
    divided = {p.dim for p in piece.placements.values() if isinstance(p, Shard)}
    for dim in divided:
        if piece.value.shape[dim] != share[dim].stop - share[dim].start:
            said = ", ".join(f"{axis}: {placement}" for axis, placement in piece.placements.items())
            raise UsageError(
                f"'{piece.tensor}' has {piece.value.shape[dim]} elements along dim {dim} at mesh position "
                f"{piece.position}; {shape} placed as {said} gives it {share[dim].stop - share[dim].start}."
            )
    index = tuple(np.arange(part.start, part.stop) for part in share)
    own = tuple(size if dim in divided else piece.value.shape[dim] for dim, size in enumerate(shape))
    known = tuple(index[dim] if dim in divided else np.arange(own[dim]) for dim in range(len(shape)))
    return replace(piece, shape=own, index=known, partial=partial)


def _in_batch(piece: Piece, shape: Shape, rows: Rows) -> Piece:
    """Along dim 0, by the rows of the batch that its forward call was given."""
    given = None if piece.call is None else rows.get((piece.position, piece.call))
    if given is None or not shape or piece.shape[0] != len(given) or len(given) == shape[0]:
        return piece
    index = _known(piece)
    return replace(piece, shape=(shape[0], *piece.shape[1:]), index=(given[index[0]], *index[1:]))


def _known(piece: Piece) -> tuple[np.ndarray, ...]:
    return tuple(np.arange(size) for size in piece.value.shape) if piece.index is None else piece.index


def _inferred(pieces: Sequence[Piece], shape: Shape, mesh: Mesh) -> list[Piece]:
    """Dims that are shorter than they should be: divided over the only axes that give each device what it has."""
    pieces = list(pieces)
    for dim, size in enumerate(shape):
        if any(piece.shape[dim] != size for piece in pieces):
            answers = list(_answers(pieces, dim, size, mesh))
            if len(answers) != 1:
                raise UsageError(_ask(pieces[0], dim, size, answers))
            pieces = [_divided(piece, dim, size, answers[0], mesh) for piece in pieces]
    return pieces


def _answers(pieces: Sequence[Piece], dim: int, size: int, mesh: Mesh) -> list[tuple[str, ...]]:
    """Sets of axes over which a dim of this size would give each device as much as it has."""
    free = [axis for axis in mesh.axes if mesh.size(axis) > 1 and not _divides(pieces, dim, axis, mesh)]
    sets = [axes for number in range(1, len(free) + 1) for axes in combinations(free, number)]
    return [axes for axes in sets if all(_fits(piece, dim, size, axes, mesh) for piece in pieces)]


def _divides(pieces: Sequence[Piece], dim: int, axis: str, mesh: Mesh) -> bool:
    """Whether ranks along an axis are known to hold different elements of another dim: an axis divides one dim."""
    held: dict[int, list[bytes]] = {}
    for piece in pieces:
        if piece.index is not None:
            held.setdefault(piece.position, []).extend(x.tobytes() for d, x in enumerate(piece.index) if d != dim)
    return any(len({tuple(held.get(rank, ())) for rank in group}) > 1 for group in mesh.groups(axis))


def _fits(piece: Piece, dim: int, size: int, axes: Sequence[str], mesh: Mesh) -> bool:
    share = _share(size, axes, mesh, piece.position)
    return piece.shape[dim] == int(share.stop) - int(share.start)


def _share(size: int, axes: Sequence[str], mesh: Mesh, position: int) -> slice:
    placements: Placements = {axis: Shard(0) for axis in axes}
    return local_index((size,), placements, mesh, position)[0]


def _divided(piece: Piece, dim: int, size: int, axes: Sequence[str], mesh: Mesh) -> Piece:
    share, index = _share(size, axes, mesh, piece.position), list(_known(piece))
    index[dim] = index[dim] + share.start
    return replace(piece, index=tuple(index), shape=(*piece.shape[:dim], size, *piece.shape[dim + 1 :]))


def _ask(piece: Piece, dim: int, size: int, answers: Sequence[tuple[str, ...]]) -> str:
    kind, _, own = piece.tensor.partition("/")
    own = own.split("/", 1)[-1] if kind == "optimizer" else f"modules/{own}" if kind == "activations" else own
    what = f"'{piece.tensor}' has {piece.shape[dim]} of {size} elements along dim {dim} on each rank, and "
    if not answers:
        return f"{what}no axis of the mesh divides it so: the runs are of other shapes, or `names` must map it."
    either = " or over ".join(" and ".join(f"'{axis}'" for axis in axes) for axes in answers)
    return (
        f"{what}may be divided over {either}: say which with placements={{'{own}': {{'{answers[0][0]}': 'S({dim})'}}}}."
    )


def _by_position(pieces: Sequence[Piece]) -> list[list[Piece]]:
    groups: dict[int, list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(piece.position, []).append(piece)
    return list(groups.values())


def _block(calls: Sequence[Piece]) -> Block:
    """What one device holds, from all forward calls of a step one after the other along dim 0."""
    first = calls[0]
    index = list(_known(first))
    value = first.value
    if len(calls) > 1 and value.ndim:
        index[0] = np.concatenate([_known(piece)[0] for piece in calls])
        value = np.concatenate([piece.value for piece in calls])
    return Block(ranks=(first.position,), index=_slices(index), value=value, partial=first.partial)


def _slices(index: Sequence[np.ndarray]) -> Index:
    return tuple(_slice(elements) for elements in index)


def _slice(elements: np.ndarray) -> slice | np.ndarray:
    if not len(elements):
        return slice(0, 0)
    first, last = int(elements[0]), int(elements[-1])
    return slice(first, last + 1) if np.array_equal(elements, np.arange(first, last + 1)) else elements
