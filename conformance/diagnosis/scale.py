"""Signatures of size: everything is k times too large or too small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from conformance.diagnosis.suspect import DivergedTensor
from conformance.evidence.gather import selector
from conformance.records.results import Cause

NORM = "metrics/grad_norm"


def scaled(suspect: DivergedTensor) -> Iterator[Cause]:
    """The tensor is the expected one times a constant: a sum over an axis done once too often, or not at all."""
    factor = _factor(suspect.value, suspect.expected)
    if (
        factor is None
        or abs(factor - 1) < 1e-3
        or not suspect.explains(suspect.value, factor * suspect.expected, factor)
    ):
        return
    if suspect.tensor == NORM:
        factor = factor**2  # it is the sum of squares that was reduced, and the root was taken after
    sizes = {axis: suspect.mesh.size(axis) for axis in suspect.axes}
    powers = [(axis, power) for axis, size in sizes.items() for power in (1, -1, 2, -2) if _near(factor, size**power)]
    recipe = suspect.case_run.contract.recipe
    slices, microbatches = (_is_factor(factor, parts) for parts in (recipe.accumulation, recipe.microbatches))
    for axis, power in powers:
        alike = sum(abs(other) == abs(power) for _, other in powers) + slices + microbatches
        yield Cause(cause=_MEANING[power], axis=axis, confidence=(0.9 if abs(power) == 1 else 0.4) / alike)
    if slices:
        yield Cause(cause="accumulated slices are not averaged as one large batch", axis=None, confidence=0.5)
    if microbatches:
        yield Cause(cause="microbatches are not averaged as one large batch", axis=None, confidence=0.6)
    if not powers and suspect.expected.size > 1:  # any two numbers differ by a factor
        yield Cause(cause=f"scaled by {factor:.4g}", axis=None, confidence=0.3)


_MEANING = {
    1: "summed twice: size-of-axis times too large",
    -1: "reduction missing, or a mean where a sum is meant: 1/size-of-axis of it",
    2: "summed three times: size-of-axis squared times too large",
    -2: "divided by the size of the axis twice",
}


def bias_repeated(suspect: DivergedTensor) -> Iterator[Cause]:
    """The error is the same in every row and a multiple of a bias: the bias was added on every rank before the sum."""
    if suspect.expected.ndim < 2 or not np.isfinite(suspect.value).all():
        return
    error = (suspect.value - suspect.expected).reshape(-1, suspect.expected.shape[-1])
    if not np.abs(error - error[0]).max() <= suspect.unexplained:
        return
    for name, bias in suspect.case_run.reference.initial.items():
        factor = _factor(error[0], bias) if bias.shape == error[0].shape else None
        if factor is not None and np.abs(error[0] - factor * bias).max() <= suspect.unexplained:
            for axis in suspect.axes:
                if _near(factor, suspect.mesh.size(axis) - 1):
                    yield Cause(cause=f"bias '{name}' added size-of-axis times", axis=axis, confidence=0.97)
            if _near(factor, -1.0):
                yield Cause(cause=f"bias '{name}' not added", axis=None, confidence=0.9)


def norm_miscounted(suspect: DivergedTensor) -> Iterator[Cause]:
    """A global norm that counts replicated parameters once per rank, or misses what other ranks hold."""
    layout = suspect.case_run.evidence.declarations.layout
    if suspect.tensor != NORM or layout is None or _diverges(suspect, "gradients/"):
        return
    oracle = suspect.case_run.reference.oracle[suspect.step]
    squares = {
        name: float(np.sum(oracle[f"gradients/{name}"] ** 2)) for name in layout if f"gradients/{name}" in oracle
    }
    found = float(suspect.value) ** 2
    for axis in suspect.axes:
        split = sum(square for name, square in squares.items() if layout[name].get(axis, "R") != "R")
        whole = sum(squares.values()) - split
        size = suspect.mesh.size(axis)
        if _near(found, split + size * whole, 1e-4):
            yield Cause(
                cause="replicated parameters counted size-of-axis times in the norm", axis=axis, confidence=0.95
            )
        if whole <= found * 1.0001 and found < (split + whole) * 0.9999:
            yield Cause(cause="the norm misses shards of other ranks", axis=axis, confidence=0.6)


def gradient_rescaled(suspect: DivergedTensor) -> Iterator[Cause]:
    """The first update is off by a multiple of its gradient: another factor than that of clipping was taken."""
    kind, _, parameter = suspect.tensor.partition("/")
    oracle, recipe = suspect.case_run.reference.oracle[0], suspect.case_run.contract.recipe
    gradient = oracle.get(f"gradients/{parameter}")
    first = kind == "updates" and suspect.step == 0
    if not first or recipe.optimizer != "sgd" or gradient is None or _diverges(suspect, "gradients/", NORM):
        return
    right = 1.0 if recipe.clip_norm is None else min(1.0, recipe.clip_norm / float(oracle[NORM]))
    error, step = suspect.value - suspect.expected, -recipe.learning_rate * gradient
    more = _factor(error, step)
    if more is None or not suspect.explains(error, more * step):
        return
    if right < 1 and suspect.explains(error, (1 - right) * step):
        yield Cause(cause="clipping not applied", axis=None, confidence=0.95)
    else:
        yield Cause(cause=f"updated by {1 + more / right:.4g} times the gradient", axis=None, confidence=0.9)


def norms_added(suspect: DivergedTensor) -> Iterator[Cause]:
    """A global norm that is the sum of the ranks' norms along an axis, or the largest of them, on all ranks alike."""
    if suspect.tensor != NORM or _diverges(suspect, "gradients/"):
        return
    found = float(suspect.value)
    if any(float(block.value) != found for block in suspect.blocks.values()):
        return
    for axis in suspect.axes:
        for once in (False, True):
            norms = _norms(suspect, suspect.mesh.groups(axis)[0], once)
            if not norms.min() or _near(norms.max(), norms.min()):
                continue  # copies of each other
            if _near(found, norms.sum(), 1e-4):
                yield Cause(cause="norms of ranks added, instead of their squares", axis=axis, confidence=0.95)
            if _near(found, norms.max(), 1e-4):
                yield Cause(cause="the largest norm of any rank", axis=axis, confidence=0.95)


def _norms(suspect: DivergedTensor, group: Sequence[int], once: bool) -> np.ndarray:
    """The norm of the gradients that each rank holds; with `once`, of the elements that no rank before it holds."""
    squares = np.zeros(len(group))
    gradients = (one for name, one in suspect.case_run.steps[suspect.step].items() if name.startswith("gradients/"))
    for gradient in gradients:
        seen = np.zeros(gradient.shape, dtype=bool)
        blocks = {rank: block for block in gradient.blocks for rank in block.ranks}
        for position, rank in enumerate(group):
            if rank not in blocks:
                continue
            where, value = selector(blocks[rank].index), blocks[rank].value.astype(np.float64)
            squares[position] += np.sum(value**2, where=~seen[where] if once else True)
            seen[where] = True
    return np.sqrt(squares)


def _diverges(suspect: DivergedTensor, *before: str) -> bool:
    """Whether something that comes before, in the same step, is already wrong: then the suspect says nothing new."""
    case_run = suspect.case_run
    earlier = (one for one in case_run.comparisons if one.step == suspect.step and one.tensor.startswith(before))
    return any(not one.excess.ratio <= case_run.bound for one in earlier)


def _factor(value: np.ndarray, expected: np.ndarray) -> float | None:
    """Least-squares factor between two tensors; None for tensors without size."""
    power = float(np.sum(expected**2))
    if not power or not np.isfinite(value).all():
        return None
    return float(np.sum(value * expected)) / power


def _is_factor(factor: float, parts: int) -> bool:
    """Whether something was multiplied or divided by a number of parts, of which there are several."""
    return parts > 1 and (_near(factor, parts) or _near(factor, 1 / parts))


def _near(found: float, wanted: float, tolerance: float = 2e-3) -> bool:
    return abs(found - wanted) <= tolerance * abs(wanted)
