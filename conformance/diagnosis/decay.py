"""Signature of weight decay: an update that is off by a constant times its parameter.

Law: decoupled decay takes learning rate times weight decay times the parameter from it, once a step.
Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.diagnosis.suspect import DivergedTensor
from conformance.evidence.gather import selector
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
    is_right = suspect.explains(suspect.value, suspect.expected)  # this copy is, and another is not
    factor = float(np.vdot(suspect.value - suspect.expected, parameter)) / size
    if not is_right and suspect.explains(suspect.value, suspect.expected + factor * parameter):
        basis = f"the update is off by {factor:.4g} times the parameter"
        yield Cause(cause=_words(suspect, factor), axis=None, confidence=0.92, basis=basis)
    else:
        yield from _on_positions(suspect, parameter)


def _on_positions(suspect: DivergedTensor, parameter: np.ndarray) -> Iterator[Cause]:
    """Some ranks along an axis decay their part otherwise than the others."""
    for axis in suspect.axes:
        factors = _factors(suspect, parameter, axis)
        wrong = {position: factor for position, factor in factors.items() if factor}
        if 0 < len(wrong) < len(factors) and np.ptp(list(wrong.values())) <= 1e-3 * abs(max(wrong.values())):
            factor = next(iter(wrong.values()))
            words = f"{_words(suspect, factor)}, on positions {sorted(wrong)}"
            basis = f"there the update is off by {factor:.4g} times the parameter, elsewhere along {axis} it is right"
            yield Cause(cause=words, axis=axis, confidence=0.92, axis_confidence=0.8, basis=basis)


def _factors(suspect: DivergedTensor, parameter: np.ndarray, axis: str) -> dict[int, float]:
    """Position -> by how many times the parameter its update is off; empty where that is not how it is off."""
    factors: dict[int, float] = {}
    for position, held, expected, own in _parts(suspect, parameter, axis):
        error, size = held - expected, float(np.vdot(own, own))
        if own.size < FEWEST or not size or not np.isfinite(error).all():
            return {}
        off = bool(np.abs(error).max() > suspect.unexplained)
        factor = float(np.vdot(error, own)) / size if off else 0.0
        if np.abs(error - factor * own).max() > suspect.unexplained or (off and _parallel(own, expected)):
            return {}
        factors[position] = factor
    return factors


def _parts(
    suspect: DivergedTensor, parameter: np.ndarray, axis: str
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """(position, what is held, expected, parameter) of each part: blocks of ranks, or shards of what all hold whole."""
    if all(block.value.shape == parameter.shape for block in suspect.blocks.values()):
        width = -(-len(parameter) // suspect.mesh.size(axis))
        for position in range(suspect.mesh.size(axis)):
            rows = slice(position * width, (position + 1) * width)
            yield position, suspect.value[rows], suspect.expected[rows], parameter[rows]
        return
    for rank, block in suspect.blocks.items():
        where, position = selector(block.index), suspect.mesh.coordinates(rank)[axis]
        yield position, block.value.astype(np.float64), suspect.expected[where], parameter[where]


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
