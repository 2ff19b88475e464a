"""What a mask of the batch hides and counts all the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conformance.evidence.comparison import CaseRun
from conformance.records.results import Cause
from conformance.runner.judge import judge
from tests.engine.specimen import case_run, contract

MASK = np.arange(16) % 3 > 0
SAID = "what 'mask' hides counts all the same"


def _run(wrong: np.ndarray, hidden: float = 0.0) -> CaseRun:
    """The reference has `hidden` wherever the mask is 0; the candidate is off in the rows that are `wrong`."""
    made = case_run(lambda name, step, value: _hid(value, hidden) + wrong[:, None] if name == "outputs/y" else value)
    oracle = tuple(step | {"outputs/y": _hid(step["outputs/y"], hidden)} for step in made.reference.oracle)
    drawn = contract(batches=lambda seed, steps: [{"inputs": np.ones((16, 6)), "mask": MASK.astype(float)}] * steps)
    return replace(made, contract=drawn, reference=replace(made.reference, oracle=oracle))


def _hid(value: np.ndarray, hidden: float) -> np.ndarray:
    return np.where(MASK[:, None], value, hidden)


def _causes(made: CaseRun) -> list[Cause]:
    return [cause for result in judge(made) for cause in result.diagnosis]


def test_what_is_wrong_wherever_the_mask_is_zero_is_not_hidden() -> None:
    cause = next(cause for cause in _causes(_run(0.5 * ~MASK)) if cause.cause == SAID)
    assert (cause.axis, cause.confidence, cause.place) == (None, 0.9, False)
    assert cause.basis.endswith("6 of 16 elements are wrong, those for which 'mask' is 0")


@pytest.mark.parametrize("wrong", [0.5 * MASK, np.full(16, 0.5), 0.5 * (np.arange(16) == 3)])
def test_what_is_wrong_elsewhere_or_not_everywhere_is_something_else(wrong: np.ndarray) -> None:
    assert not any(cause.cause == SAID for cause in _causes(_run(wrong)))


def test_where_more_than_zero_is_meant_nothing_is_hidden() -> None:
    assert not any(cause.cause == SAID for cause in _causes(_run(0.5 * ~MASK, hidden=1.0)))
