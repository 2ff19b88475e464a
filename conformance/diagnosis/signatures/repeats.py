"""Signatures of repeats: elements that several ranks along an axis store, but not all, as with few key heads.

Law: the gradient of a repeated element is the sum of what its ranks have of it, and it counts once in a global norm.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.signatures.scale import NORM
from conformance.diagnosis.signatures.suspect import EXPLAINED, DivergedTensor
from conformance.evidence.evidence import Observed
from conformance.evidence.gather import deviation, selector
from conformance.records.results import Cause

GRADIENTS = "gradients/"
SURE = 0.93
_MEANING = {
    -1: "a mean over the ranks that store the same elements, where their sum is meant",
    1: "summed once more over the ranks that store the same elements",
}


def repeats_scaled(suspect: DivergedTensor) -> Iterator[Cause]:
    """The gradients of repeated elements are off, each by the number of its repeats, and no others."""
    if not suspect.tensor.startswith(GRADIENTS):
        return
    gradients = _gradients(suspect)
    for axis in suspect.axes:
        number = _repeats(suspect.comparison.observed, suspect.mesh, axis)
        for power, words in _MEANING.items() if number.max(initial=1) > 1 else ():
            times = f"{'' if power > 0 else '1/'}{number.max()}"
            basis = f"it is {times} times what it should be where {number.max()} ranks along {axis} store an element"
            if all(_is_off(gradient, axis, power) for gradient in gradients):
                basis += ", and all gradients of which no element is repeated are right"
                yield Cause(cause=words, axis=axis, confidence=SURE, axis_confidence=SURE, basis=basis)


def repeats_in_norm(suspect: DivergedTensor) -> Iterator[Cause]:
    """The norm counts a repeated element once for each rank along an axis that stores it; the gradients are right."""
    gradients = _gradients(suspect)
    right = all(gradient.comparison.excess.ratio <= suspect.case_run.bound for gradient in gradients)
    if suspect.tensor != NORM or not gradients or not right:
        return
    for axis in suspect.axes:
        more = 0.0
        for gradient in gradients:
            again = _repeats(gradient.comparison.observed, suspect.mesh, axis) - 1
            more += float(np.sum(again * gradient.expected**2))
        if more and suspect.explains(suspect.value, np.sqrt(suspect.expected**2 + more)):
            words = "elements that several ranks along the axis store count once for each of them in the norm"
            basis = f"its square has {more:.4g} more than it should have, which is what their repeats along {axis} make"
            yield Cause(cause=words, axis=axis, confidence=0.95, axis_confidence=SURE, basis=basis)


def _gradients(suspect: DivergedTensor) -> list[DivergedTensor]:
    return [
        DivergedTensor(comparison=other, case_run=suspect.case_run)
        for other in suspect.case_run.comparisons
        if other.step == suspect.step and other.tensor.startswith(GRADIENTS)
    ]


def _repeats(observed: Observed, mesh: Mesh, axis: str) -> np.ndarray:
    """How many ranks along the axis store each element, where those are not all; else 1."""
    most = np.ones(observed.shape, dtype=int)
    where = {rank: selector(block.index) for block in observed.blocks for rank in block.ranks}
    for group in mesh.groups(axis):
        stored = np.zeros(observed.shape, dtype=int)
        for rank in group:
            if rank in where:
                stored[where[rank]] += 1
        most = np.maximum(most, np.where(stored < len(group), stored, 1))
    return most


def _is_off(gradient: DivergedTensor, axis: str, power: int) -> bool:
    """Whether it is what it should be times the number of repeats to a power; right where nothing is repeated."""
    factors = _repeats(gradient.comparison.observed, gradient.mesh, axis).astype(float) ** power
    left = float(deviation(gradient.comparison.observed, factors * gradient.expected, gradient.mesh).max(initial=0.0))
    explained = left <= gradient.unexplained * max(1.0, float(factors.max(initial=1.0)))
    return explained and (gradient.error <= gradient.unexplained or left * EXPLAINED <= gradient.error)
