"""Signatures of size: everything is k times too large or too small."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.records.results import Cause

NORM = "metrics/grad_norm"
COUNT = "metrics/tokens"  # the valid elements of a batch, by which sums are divided
SLICES = "accumulated slices are not averaged as one large batch"
TWICE = "summed twice: size-of-axis times too large"
MEAN = "reduction missing, or a mean where a sum is meant: 1/size-of-axis of it"
MOST_TIMES = 8  # that something may be counted: a larger factor is more likely that of a scale
_MEANING = {
    1: TWICE,
    -1: MEAN,
    2: "summed three times: size-of-axis squared times too large",
    -2: "divided by the size of the axis twice",
}


def scaled(suspect: DivergedTensor) -> Iterator[Cause]:
    """The tensor is the expected one times a constant: a sum over an axis done once too often, or not at all."""
    factor = factor_between(suspect.value, suspect.expected)
    if factor is None or abs(factor - 1) < 1e-3:
        return
    if not suspect.explains(suspect.value, factor * suspect.expected, factor):
        return
    count = _count_factor(suspect)
    if count is not None and near(factor * count, 1):
        basis = f"'{COUNT}', by which it is divided, is {count:.6g} times what it should be"
        yield from _meanings(suspect, count, basis)
        return
    if is_rate(suspect):
        yield from _of_rate(suspect, factor)
        return
    what = "it"
    if suspect.tensor == NORM:  # it is the sum of squares that was reduced, and the root was taken after
        what, factor = "its square", factor**2
    yield from _meanings(suspect, factor, f"{what} is {factor:.6g} times what it should be")


def is_rate(suspect: DivergedTensor) -> bool:
    """An update that is wrong where its gradient and what the optimizer keeps of it are right."""
    kind, _, name = suspect.tensor.partition("/")
    of_step = [other for other in suspect.case_run.comparisons if other.step == suspect.step]
    made_of = [other for other in of_step if _is_made_of(other.tensor, name)]
    right = all(other.excess.ratio <= suspect.case_run.bound for other in made_of)
    return kind == "updates" and bool(made_of) and right


def _is_made_of(tensor: str, parameter: str) -> bool:
    return tensor == f"gradients/{parameter}" or (tensor.startswith("optimizer/") and tensor.endswith(f"/{parameter}"))


def _of_rate(suspect: DivergedTensor, factor: float) -> Iterator[Cause]:
    """No sum can have gone wrong: it is what the update is multiplied by; the ratio of two norms, with LAMB."""
    if suspect.case_run.contract.recipe.optimizer == "lamb":
        words = f"a norm by which steps are scaled is another one: its step is {factor:.4g} times what it should be"
        basis = "its gradient and the optimizer's state are right, and LAMB multiplies each step by a ratio of norms"
        yield Cause(cause=words, axis=None, confidence=0.85, basis=basis)
        return
    basis = f"it is {factor:.6g} times what it should be, its gradient and the optimizer's state are right"
    sized = [axis for axis in suspect.axes if near(factor, size := suspect.mesh.size(axis)) or near(factor, 1 / size)]
    for axis in sized:
        words = f"learning rate {'multiplied' if factor > 1 else 'divided'} by the size of an axis"
        yield Cause(cause=words, axis=axis, confidence=0.9 / len(sized), axis_confidence=0.5 / len(sized), basis=basis)
    if not sized:
        words = f"learning rate {factor:.4g} times what it should be"
        yield Cause(cause=words, axis=None, confidence=0.85, basis=basis)


def _count_factor(suspect: DivergedTensor) -> float | None:
    """By what the number of valid elements is off in the step, where it is; not asked of that number itself."""
    step = suspect.step
    if step < 0 or suspect.tensor == COUNT or COUNT not in suspect.case_run.steps[step]:
        return None
    expected = suspect.case_run.reference.oracle[step].get(COUNT)
    observed = suspect.case_run.steps[step][COUNT]
    if expected is None or observed.shape != expected.shape:
        return None
    factor = factor_between(suspect.case_run.whole(observed), expected)
    return None if factor is None or abs(factor - 1) < 1e-3 or factor == 0 else factor


def _meanings(suspect: DivergedTensor, factor: float, basis: str) -> Iterator[Cause]:
    """What a factor can come from; the more it can come from, the less sure is each."""
    recipe = suspect.case_run.contract.recipe
    on_axes = list(_of_axes(suspect, factor))
    slices, microbatches = (_is_factor(factor, parts) for parts in (recipe.accumulation, recipe.microbatches))
    tokens = _valid(suspect)
    counted = tokens is not None and tokens > 1 and (near(factor, tokens) or near(factor, 1 / tokens))
    alike = len(on_axes) + slices + microbatches + counted + _is_ratio(suspect)
    for words, axes, sure in on_axes:
        for axis in axes:
            yield Cause(cause=words, axis=axis, confidence=sure / alike, axis_confidence=0.5 / alike, basis=basis)
    if slices:
        yield Cause(cause=SLICES, axis=None, confidence=0.6 if not on_axes else 0.3, basis=basis)
    if microbatches:
        words = "microbatches are not averaged as one large batch"
        yield Cause(cause=words, axis=None, confidence=0.9 if not on_axes else 0.3, basis=basis)
    if counted:
        words = "not divided by the number of valid elements" if factor > 1 else "divided by the valid elements twice"
        yield Cause(cause=words, axis=None, confidence=0.85, basis=f"{basis}, and {tokens} elements are valid")
    elif not on_axes and (times := _times_counted(suspect, factor)):
        others = "other gradients of the step are right"
        yield Cause(cause=f"counted {times} times", axis=None, confidence=0.9, basis=f"{basis}, {others}")
    elif not on_axes and suspect.expected.size > 1:  # any two numbers differ by a factor
        yield Cause(cause=f"scaled by {factor:.4g}", axis=None, confidence=0.3, basis=basis, place=True)


def _times_counted(suspect: DivergedTensor, factor: float) -> int | None:
    """How often a gradient was added that should be once: all others would be as wrong had the loss been scaled."""
    times = round(factor)
    same_step = (other for other in suspect.case_run.comparisons if other.step == suspect.step)
    gradients = [other for other in same_step if other.tensor.startswith("gradients/")]
    some_right = any(other.excess.ratio <= suspect.case_run.bound for other in gradients)
    counted = suspect.tensor.startswith("gradients/") and some_right and 2 <= times <= MOST_TIMES
    return times if counted and near(factor, times) else None


def _is_ratio(suspect: DivergedTensor) -> bool:
    """A metric whose divisor is not observed: either of the two sums may be the wrong one."""
    return suspect.tensor.startswith("metrics/") and suspect.tensor not in (NORM, COUNT) and suspect.expected.size == 1


def _of_axes(suspect: DivergedTensor, factor: float) -> Iterator[tuple[str, tuple[str, ...], float]]:
    """(cause, axes, how sure) for powers of the size of one axis, and for products of sizes."""
    for axis in suspect.axes:
        for power, words in _MEANING.items():
            if near(factor, suspect.mesh.size(axis) ** power):
                yield words, (axis,), 0.9 if abs(power) == 1 else 0.4
    for number in range(2, len(suspect.axes) + 1):
        for axes in combinations(suspect.axes, number):
            size = math.prod(suspect.mesh.size(axis) for axis in axes)
            for power in (1, -1):
                if near(factor, size**power):
                    yield f"{_MEANING[power]}, over {' and '.join(axes)}", axes, 0.6


def _valid(suspect: DivergedTensor) -> int | None:
    """How many elements of the batch of that step count; None where no mask says."""
    step = max(suspect.step, 0)
    batches = suspect.case_run.contract.batches(suspect.case_run.case.seed, step + 1)
    mask = batches[step].get("mask") if len(batches) > step else None
    return None if mask is None else int(np.count_nonzero(mask))


def bias_repeated(suspect: DivergedTensor) -> Iterator[Cause]:
    """A bias was added on every rank before the sum, or not at all; or what it is added to was summed twice."""
    if suspect.expected.ndim < 2 or not np.isfinite(suspect.value).all():
        return
    for name, bias in suspect.case_run.reference.initial.items():
        if bias.ndim == 1 and bias.shape[0] == suspect.expected.shape[-1] and bias.any():
            yield from _multiples(suspect, name, bias)
            yield from _behind(suspect, name, bias)


def _multiples(suspect: DivergedTensor, name: str, bias: np.ndarray) -> Iterator[Cause]:
    """The error is the same in every row and a multiple of the bias."""
    error = (suspect.value - suspect.expected).reshape(-1, suspect.expected.shape[-1])
    factor = factor_between(error[0], bias)
    if factor is None or not np.abs(error - factor * bias).max() <= suspect.unexplained:
        return
    basis = f"the error of every row is {factor:.6g} times '{name}'"
    for axis in suspect.axes:
        if near(factor, suspect.mesh.size(axis) - 1):
            yield Cause(cause=f"bias '{name}' added size-of-axis times", axis=axis, confidence=0.97, basis=basis)
    if near(factor, -1.0):
        yield Cause(cause=f"bias '{name}' not added", axis=None, confidence=0.9, basis=basis)


def _behind(suspect: DivergedTensor, name: str, bias: np.ndarray) -> Iterator[Cause]:
    """Without the bias, the tensor is the expected one times a constant."""
    value, expected = suspect.value - bias, suspect.expected - bias
    factor = factor_between(value, expected)
    if factor is None or abs(factor - 1) < 1e-3 or not suspect.explains(value, factor * expected, factor):
        return
    yield from _meanings(suspect, factor, f"without '{name}' it is {factor:.6g} times what it should be")


def factor_between(value: np.ndarray, expected: np.ndarray) -> float | None:
    """Least-squares factor between two tensors; None for tensors without size."""
    power = float(np.sum(expected**2))
    if not power or not np.isfinite(value).all():
        return None
    return float(np.sum(value * expected)) / power


def _is_factor(factor: float, parts: int) -> bool:
    """Whether something was multiplied or divided by a number of parts, of which there are several."""
    return parts > 1 and (near(factor, parts) or near(factor, 1 / parts))


def near(value: float, wanted: float, tolerance: float = 2e-3) -> bool:
    return abs(value - wanted) <= tolerance * abs(wanted)
