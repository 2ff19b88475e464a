"""Signatures of copies: ranks that should hold the same values do not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.diagnosis.signatures.shards import PLACE
from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.evidence.blocks import place
from conformance.records.results import Cause

BESIDE = 0.3  # that rounding is the cause, where other tensors are off by more than rounding


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
    right = [suspect.agrees(copy, wanted) for copy in copies]
    words, sure, place = _said(suspect, axis, copies, wanted, right)
    basis = f"the {len(copies)} copies along {axis} differ"
    return Cause(
        cause=words, axis=axis, confidence=sure * share, axis_confidence=0.85 * share, basis=basis, place=place
    )


def _said(
    suspect: DivergedTensor, axis: str, copies: list[np.ndarray], wanted: np.ndarray, right: list[bool]
) -> tuple[str, float, bool]:
    """(what the copies are, how sure that is, does it only say where)"""
    if all(right):
        alone = not any(other.excess.ratio > suspect.case_run.bound for other in suspect.case_run.comparisons)
        return "copies differ by rounding alone: each was computed on its own", 0.9 if alone else BESIDE, False
    if right[0] and not any(right[1:]):
        return "only the first rank along the axis is right", 0.9, False
    if suspect.explains(np.sum(copies, axis=0), wanted, len(copies)):
        return "reduction missing: the copies are partial sums", 0.97, False
    if suspect.explains(np.mean(copies, axis=0), wanted):
        return f"average missing: every rank kept its own mean{_or_sums(suspect, axis, len(copies))}", 0.95, False
    if any(right):
        wrong = [i for i, good in enumerate(right) if not good]
        return f"wrong on positions {wrong} along the axis only", PLACE, True
    return "copies differ: something local was taken for global", PLACE, True


def _or_sums(suspect: DivergedTensor, axis: str, copies: int) -> str:
    """What the same numbers are where another axis has as many ranks as there are copies: nothing tells them apart."""
    others = [other for other in suspect.axes if other != axis and suspect.mesh.size(other) == copies]
    return f", or a partial sum, summed once more over {' or '.join(others)}" if others else ""
