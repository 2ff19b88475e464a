"""Signatures of shards: right values in the wrong place, or only some shards wrong."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.diagnosis.signatures.holders import whose
from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.evidence.gather import distance, selector
from conformance.records.results import Cause

PLACE = 0.85  # how sure it is where an error shows: that can be seen; a line inside the step says more


def permuted(suspect: DivergedTensor) -> Iterator[Cause]:
    """Each shard along an axis is some other rank's shard: permuted, everywhere the first, or by another axis."""
    for axis in suspect.axes:
        owners = _owners(suspect, axis)
        words = None if owners is None else whose(owners, axis, suspect.mesh)
        if words is not None:
            basis = f"rank by rank, the blocks are those that belong to other places along {axis}"
            yield Cause(cause=words, axis=axis, confidence=0.95, axis_confidence=0.8, basis=basis)


def _owners(suspect: DivergedTensor, axis: str) -> dict[int, int] | None:
    """rank -> the place along the axis whose expected shard it holds; None where some shard is nobody's."""
    owners: dict[int, int] = {}
    for group in suspect.mesh.groups(axis):
        if not any(rank in suspect.blocks for rank in group):
            continue  # what only one place along another axis holds
        if not all(rank in suspect.blocks for rank in group):
            return None
        wanted = [suspect.slice_of(rank, suspect.expected) for rank in group]
        if any(part.shape != wanted[0].shape for part in wanted) or not wanted[0].size:
            return None
        if all(np.array_equal(part, wanted[0]) for part in wanted[1:]):
            return None
        for rank in group:
            value = suspect.blocks[rank].value.astype(np.float64)
            owner = next((place for place, part in enumerate(wanted) if suspect.explains(value, part)), None)
            if owner is None:
                return None
            owners[rank] = owner
    return owners or None


def shards_wrong(suspect: DivergedTensor) -> Iterator[Cause]:
    """Errors on some positions along an axis only; zeros or constants there say that nothing was written."""
    for axis in suspect.axes:
        wrong = _wrong_positions(suspect, axis)
        if 0 < len(wrong) < len({suspect.mesh.coordinates(rank)[axis] for rank in suspect.blocks}):
            yield _shard_cause(suspect, axis, wrong)


def seams_wrong(suspect: DivergedTensor) -> Iterator[Cause]:
    """Errors only in the first or last elements of blocks along a dim that an axis divides: where shards meet."""
    wrong = ~(distance(suspect.value, suspect.expected) <= suspect.unexplained)
    if not wrong.any():
        return
    for axis in suspect.axes:
        for dim in range(wrong.ndim):
            seams = _seams(suspect, axis, dim)
            others = tuple(d for d in range(wrong.ndim) if d != dim)
            if seams and set(np.flatnonzero(wrong.any(axis=others)).tolist()) <= seams:
                basis = f"only the ends of the blocks along dim {dim} are wrong"
                words = "wrong only where shards meet"
                yield Cause(cause=words, axis=axis, confidence=PLACE, axis_confidence=0.5, basis=basis, place=True)


def _seams(suspect: DivergedTensor, axis: str, dim: int) -> set[int]:
    """The ends of the blocks along a dim; none where the axis does not divide it, or blocks are mostly ends."""
    group = suspect.mesh.groups(axis)[0]
    held = [_held(suspect, rank, dim) for rank in group if rank in suspect.blocks]
    if len({part.tobytes() for part in held}) < len(group):
        return set()
    cuts = [np.flatnonzero(np.diff(part) != 1) for part in held]  # a block may be several runs (zigzag)
    ends = [
        part[np.unique(np.concatenate([[0, len(part) - 1], cut, cut + 1]))]
        for part, cut in zip(held, cuts, strict=True)
        if len(part)  # more ranks than rows leave some with none
    ]
    edges = {int(end) for part in ends for end in part}
    return edges if 2 * len(edges) <= suspect.expected.shape[dim] else set()


def _held(suspect: DivergedTensor, rank: int, dim: int) -> np.ndarray:
    part = suspect.blocks[rank].index[dim]
    return np.arange(part.start, part.stop) if isinstance(part, slice) else np.sort(part)


def _wrong_positions(suspect: DivergedTensor, axis: str) -> list[int]:
    wrong = set()
    for rank, block in suspect.blocks.items():
        expected = suspect.expected[selector(block.index)]
        if expected.size and not distance(block.value, expected).max() <= suspect.unexplained:
            wrong.add(suspect.mesh.coordinates(rank)[axis])
    return sorted(wrong)


def _shard_cause(suspect: DivergedTensor, axis: str, wrong: list[int]) -> Cause:
    blocks = [b for rank, b in suspect.blocks.items() if suspect.mesh.coordinates(rank)[axis] in wrong and b.value.size]
    if all(not block.value.any() for block in blocks):
        words, sure, place = f"zeros never written on positions {wrong}", 0.9, False
    elif all(block.value.size > 1 and np.ptp(block.value) == 0 for block in blocks):
        words, sure, place = f"constant on positions {wrong}", PLACE, True
    else:
        words, sure, place = f"wrong on positions {wrong} along the axis only", PLACE, True
    basis = f"the blocks of the other positions along {axis} are right"
    return Cause(cause=words, axis=axis, confidence=sure, axis_confidence=0.7, basis=basis, place=place)
