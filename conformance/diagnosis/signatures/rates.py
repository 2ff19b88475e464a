"""Signatures of a learning rate that is another one in a later step, or on some ranks.

Law: of right gradients and right slots, all updates of a step are proportional to its learning rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from conformance.diagnosis.signatures.positions import off_on_positions
from conformance.diagnosis.signatures.scale import factor_between, is_rate
from conformance.diagnosis.signatures.suspect import EXPLAINED, DivergedTensor
from conformance.evidence.comparison import TensorComparison
from conformance.evidence.gather import deviation
from conformance.records.results import Cause

UPDATES = "updates/"
OF_UPDATES = (UPDATES, "ema/")  # what is known after the gradients and the slots of a step
FEWEST = 4  # elements: fewer are a multiple of any others


def rate_of_later_step(suspect: DivergedTensor) -> Iterator[Cause]:
    """All before it is right, and every update of the step is the right one times the same factor.

    Updates are counted from the start: what a step adds is the difference to the step before.
    """
    if suspect.step < 1 or not suspect.tensor.startswith(UPDATES):
        return
    updates = [other for other in _of_step(suspect) if other.tensor.startswith(UPDATES)]
    factor = factor_between(suspect.value - _before(suspect), suspect.expected - _before(suspect))
    if factor is None or factor < 1e-3 or abs(factor - 1) < 1e-3 or not _all_else_is_right(suspect, updates):
        return
    moved = [_is_multiple(suspect, update, factor) for update in updates]
    if None in moved or sum(size for size in moved if size is not None) < FEWEST:
        return
    words = f"{_spoken(suspect, factor)} in step {suspect.step + 1}"
    basis = "every update of the step is that multiple of the right one, its gradients and all before it are right"
    yield Cause(cause=words, axis=None, confidence=0.85, basis=basis)


def rate_on_positions(suspect: DivergedTensor) -> Iterator[Cause]:
    """Some ranks along an axis update their part or their copy by a multiple, of gradients and slots that are right."""

    def factor_of(where: Any, held: np.ndarray) -> float | None:
        factor = factor_between(held, suspect.expected[where])
        if factor is None or factor < 1e-3 or held.size < FEWEST:
            return None
        left = float(np.abs(held - factor * suspect.expected[where]).max())
        return factor if left <= suspect.unexplained * max(1.0, factor) else None

    if suspect.step != 0 or not is_rate(suspect) or suspect.case_run.contract.recipe.optimizer == "lamb":
        return
    for axis in suspect.axes:
        off = off_on_positions(suspect, axis, factor_of)
        if off is not None:
            words = f"{_spoken(suspect, off.factor)}, on positions {off.positions}"
            basis = f"there its update is that multiple of the right one, elsewhere along {axis} it is right"
            yield Cause(cause=words, axis=axis, confidence=0.92, axis_confidence=0.8, basis=basis)


def _of_step(suspect: DivergedTensor) -> Sequence[TensorComparison]:
    return [other for other in suspect.case_run.comparisons if other.step == suspect.step]


def _before(suspect: DivergedTensor) -> np.ndarray:
    return suspect.case_run.reference.oracle[suspect.step - 1][suspect.tensor]


def _all_else_is_right(suspect: DivergedTensor, updates: Sequence[TensorComparison]) -> bool:
    """All before the updates of the step, the gradients of all of them among it."""
    before = [
        other
        for other in suspect.case_run.comparisons
        if other.step < suspect.step or (other.step == suspect.step and not other.tensor.startswith(OF_UPDATES))
    ]
    seen = {other.tensor for other in before if other.step == suspect.step}
    known = all(update.tensor.replace(UPDATES, "gradients/", 1) in seen for update in updates)
    return known and all(other.excess.ratio <= suspect.case_run.bound for other in before)


def _is_multiple(suspect: DivergedTensor, update: TensorComparison, factor: float) -> int | None:
    """How many elements show that what the step adds is a multiple of what it should be; None where it is not."""
    other = DivergedTensor(comparison=update, case_run=suspect.case_run)
    before = _before(other)
    multiple = before + factor * (other.expected - before)
    left = float(deviation(update.observed, multiple, suspect.mesh).max(initial=0.0))
    if not left <= other.unexplained * max(1.0, factor):
        return None
    return other.expected.size if left * EXPLAINED <= other.error else 0


def _spoken(suspect: DivergedTensor, factor: float) -> str:
    """Where what the optimizer keeps of clipped gradients is seen, and so is right, it is the rate alone."""
    has_slots = any(other.tensor.startswith("optimizer/") for other in _of_step(suspect))
    what = "learning rate" if has_slots else "learning rate, or what gradients are clipped by,"
    return f"{what} {factor:.4g} times what it should be"
