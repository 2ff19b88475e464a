"""Signature of a gradient of zeros where the reference has none, which an optimizer leaves alone.

Law: with a gradient of zeros, momentum and decoupled weight decay move a parameter; without one nothing does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.records.results import Cause

WORDS = "moved by an optimizer that is given zeros where the reference has no gradient"
BASIS = (
    "the loss of the step does not reach it, and the reference leaves it: set gradients to None, or give a class as "
    "reference that sets them to zero too"
)


def moved_by_zeros(suspect: DivergedTensor) -> Iterator[Cause]:
    """In a step after the first, in which the reference does not move what the candidate does."""
    case_run, name = suspect.case_run, suspect.tensor.removeprefix("updates/")
    if suspect.step < 1 or name == suspect.tensor or case_run.contract.held:
        return
    before, now = (case_run.reference.oracle[step] for step in (suspect.step - 1, suspect.step))
    gradient = now.get(f"gradients/{name}")
    seen = case_run.steps[suspect.step].get(f"gradients/{name}")
    if gradient is None or seen is None or gradient.any() or case_run.whole(seen).any():
        return
    if np.array_equal(now[suspect.tensor], before[suspect.tensor]):
        yield Cause(cause=WORDS, axis=None, confidence=0.96, basis=BASIS)
