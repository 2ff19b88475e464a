"""Signature of weight decay: an update that is off by a constant times its parameter.

Law: decoupled decay takes learning rate times weight decay times the parameter from it, once a step.
Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from conformance.diagnosis.signatures.positions import off_on_positions
from conformance.diagnosis.signatures.suspect import EXPLAINED, DivergedTensor
from conformance.evidence.gather import deviation
from conformance.records.results import Cause

FEWEST = 4  # elements of a part: a few are a multiple of anything
PARALLEL = 0.999  # an update that is itself a multiple of its parameter shows nothing of decay


def decayed(suspect: DivergedTensor) -> Iterator[Cause]:
    """In the first step, where the parameter is the initial one."""
    name = suspect.tensor.removeprefix("updates/")
    parameter = suspect.case_run.reference.initial.get(name)
    if suspect.step != 0 or name == suspect.tensor or parameter is None or parameter.shape != suspect.value.shape:
        return
    size = float(np.vdot(parameter, parameter))
    if parameter.size < 2 or not size or not np.isfinite(suspect.value).all() or _parallel(parameter, suspect.expected):
        return
    factor = float(np.vdot(suspect.value - suspect.expected, parameter)) / size
    left = deviation(suspect.comparison.observed, suspect.expected + factor * parameter, suspect.mesh).max()
    if left <= suspect.unexplained and left * EXPLAINED <= suspect.error:
        basis = f"the update is off by {factor:.4g} times the parameter"
        yield Cause(cause=_words(suspect, factor), axis=None, confidence=0.92, basis=basis)
    else:
        yield from _on_positions(suspect, parameter)


def _on_positions(suspect: DivergedTensor, parameter: np.ndarray) -> Iterator[Cause]:
    """Some ranks along an axis decay their part or their copy otherwise than the others."""

    def factor_of(where: Any, held: np.ndarray) -> float | None:
        error, own = held - suspect.expected[where], parameter[where]
        if own.size < FEWEST or not own.any() or _parallel(own, suspect.expected[where]):
            return None
        factor = float(np.vdot(error, own)) / float(np.vdot(own, own))
        return factor if np.abs(error - factor * own).max() <= suspect.unexplained else None

    for axis in suspect.axes:
        off = off_on_positions(suspect, axis, factor_of)
        if off is not None:
            words = f"{_words(suspect, off.factor)}, on positions {off.positions}"
            basis = (
                f"there the update is off by {off.factor:.4g} times the parameter, elsewhere along {axis} it is right"
            )
            yield Cause(cause=words, axis=axis, confidence=0.92, axis_confidence=0.8, basis=basis)


def _parallel(parameter: np.ndarray, update: np.ndarray) -> bool:
    lengths = float(np.linalg.norm(parameter) * np.linalg.norm(update))
    return not lengths or abs(float(np.vdot(parameter, update))) / lengths > PARALLEL


def _words(suspect: DivergedTensor, factor: float) -> str:
    """Once too often is twice, or, where the recipe has groups, once for a tensor of the group that does not decay."""
    recipe = suspect.case_run.contract.recipe
    once = -recipe.learning_rate * recipe.weight_decay
    if once and abs(factor / once - 1) < 1e-3:
        return "weight decay applied once too often"
    if once and abs(factor / once + 1) < 1e-3:
        return "weight decay not applied"
    return "weight decay of another size"
