"""Signatures of norms and of what is scaled by them: clipping, and updates by another multiple of the gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from conformance.contract.placements import Replicate
from conformance.diagnosis.signatures.scale import NORM, factor_between, near
from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.evidence.gather import selector
from conformance.records.results import Cause

MOST_HOLDERS = 64  # of one parameter
COUNTED = 0.88  # less than a cause that says along which axis


def norm_miscounted(suspect: DivergedTensor) -> Iterator[Cause]:
    """A global norm that counts replicated parameters once per rank, or misses what other ranks hold."""
    layout = suspect.case_run.evidence.declarations.layout
    if suspect.tensor != NORM or layout is None or _diverges(suspect, "gradients/"):
        return
    oracle = suspect.case_run.reference.oracle[suspect.step]
    squares = {
        name: float(np.sum(oracle[f"gradients/{name}"] ** 2)) for name in layout if f"gradients/{name}" in oracle
    }
    norm_squared = float(suspect.value) ** 2
    for axis in suspect.axes:
        split = sum(square for name, square in squares.items() if layout[name].get(axis, Replicate()) != Replicate())
        whole = sum(squares.values()) - split
        size = suspect.mesh.size(axis)
        if near(norm_squared, split + size * whole, 1e-4):
            yield Cause(
                cause="replicated parameters counted size-of-axis times in the norm", axis=axis, confidence=0.95
            )
        if whole <= norm_squared * 1.0001 and norm_squared < (split + whole) * 0.9999:
            yield Cause(cause="the norm misses shards of other ranks", axis=axis, confidence=0.6)
    yield from _of_one_gradient(norm_squared, squares)


def _of_one_gradient(norm_squared: float, squares: Mapping[str, float]) -> Iterator[Cause]:
    """One gradient that two holders count, as a tied embedding is on two stages, or that nobody counts."""
    total = sum(squares.values())
    times = {name: 1 + (norm_squared - total) / square for name, square in squares.items() if square}
    counted = {name: round(count) for name, count in times.items() if abs(count - round(count)) < 1e-6}
    often = [(name, count) for name, count in counted.items() if count in range(MOST_HOLDERS + 1) and count != 1]
    if len(often) == 1 < len(squares):
        [(name, count)] = often
        words = f"'gradients/{name}' is counted {count} times in the norm" if count else f"the norm misses '{name}'"
        basis = "all gradients are right; so counted, it alone explains the norm"
        yield Cause(cause=words, axis=None, confidence=COUNTED, basis=basis)


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
    more = factor_between(error, step)
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
    observed = float(suspect.value)
    if any(float(block.value) != observed for block in suspect.blocks.values()):
        return
    for axis in suspect.axes:
        for once in (False, True):
            norms = _norms(suspect, suspect.mesh.groups(axis)[0], once)
            if not norms.min() or near(norms.max(), norms.min()):
                continue  # copies of each other
            if near(observed, norms.sum(), 1e-4):
                yield Cause(cause="norms of ranks added, instead of their squares", axis=axis, confidence=0.95)
            if near(observed, norms.max(), 1e-4):
                yield Cause(cause="the largest norm of any rank", axis=axis, confidence=0.95)


def _norms(suspect: DivergedTensor, group: Sequence[int], once: bool) -> np.ndarray:
    """The norm of the gradients that each rank holds; with `once`, of the elements that no rank before it holds."""
    squares = np.zeros(len(group))
    gradients = (
        gradient for name, gradient in suspect.case_run.steps[suspect.step].items() if name.startswith("gradients/")
    )
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
    earlier = (
        comparison
        for comparison in case_run.comparisons
        if comparison.step == suspect.step and comparison.tensor.startswith(before)
    )
    return any(not comparison.excess.ratio <= case_run.bound for comparison in earlier)
