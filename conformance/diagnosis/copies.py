"""Signatures of copies: ranks that should hold the same values do not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.diagnosis.suspect import DivergedTensor
from conformance.evidence.blocks import place
from conformance.records.results import Cause


def copies_differ(suspect: DivergedTensor) -> Iterator[Cause]:
    """Copies differ along an axis; what they add up to tells which reduction is missing."""
    axes = [axis for axis in suspect.axes if _differs_along(suspect, axis)]
    for axis in axes:
        yield _cause(suspect, axis, 1.0 / len(axes))


def _groups(suspect: DivergedTensor, axis: str) -> Iterator[list[np.ndarray]]:
    """Ranks along the axis that hold the same elements: their copies, in axis order."""
    for group in suspect.mesh.groups(axis):
        held = [suspect.blocks[rank] for rank in group if rank in suspect.blocks]
        if len(held) > 1 and len({place(block) for block in held}) == 1:
            yield [block.value.astype(np.float64) for block in held]


def _differs_along(suspect: DivergedTensor, axis: str) -> bool:
    return any(copy.tobytes() != copies[0].tobytes() for copies in _groups(suspect, axis) for copy in copies[1:])


def _cause(suspect: DivergedTensor, axis: str, share: float) -> Cause:
    group = suspect.group(axis)
    copies = [suspect.blocks[rank].value.astype(np.float64) for rank in group]
    wanted = suspect.slice_of(group[0], suspect.expected)
    right = [suspect.explains(copy, wanted) for copy in copies]
    if all(right):
        return Cause(
            cause="copies differ by rounding alone: each was computed on its own", axis=axis, confidence=0.9 * share
        )
    if right[0] and not any(right[1:]):
        return Cause(cause="only the first rank along the axis is right", axis=axis, confidence=0.9 * share)
    if suspect.explains(np.sum(copies, axis=0), wanted, len(copies)):
        return Cause(cause="reduction missing: the copies are partial sums", axis=axis, confidence=0.97 * share)
    if suspect.explains(np.mean(copies, axis=0), wanted):
        return Cause(cause="average missing: every rank kept its own mean", axis=axis, confidence=0.95 * share)
    if any(right):
        wrong = [i for i, good in enumerate(right) if not good]
        return Cause(cause=f"wrong on positions {wrong} along the axis only", axis=axis, confidence=0.8 * share)
    return Cause(cause="copies differ: something local was taken for global", axis=axis, confidence=0.75 * share)
