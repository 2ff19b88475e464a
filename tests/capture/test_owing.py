"""Who owes a slot of an optimizer: all that had its parameter, or the rank whose part of the optimizer has it."""

from __future__ import annotations

import numpy as np

from conformance.capture.captured import _owing
from conformance.evidence.evidence import Block, Observed

OWED = {"parameters/a": (0, 1), "parameters/b": (0, 1)}


def _on(*ranks: int) -> Observed:
    return Observed(shape=(), dtype="float64", blocks=(Block(ranks=ranks, index=(), value=np.zeros(())),))


def test_each_rank_owes_its_own_part_of_an_optimizer() -> None:
    step = {"optimizer/step/a": _on(0), "optimizer/step/b": _on(1), "gradients/a": _on(0)}
    owing = {name: observed.owed_by for name, observed in _owing(step, OWED).items()}
    assert owing == {"optimizer/step/a": (0,), "optimizer/step/b": (1,), "gradients/a": (0, 1)}


def test_where_a_rank_has_all_slots_the_others_owe_them_too() -> None:
    step = {"optimizer/step/a": _on(0, 1), "optimizer/step/b": _on(0)}
    assert {observed.owed_by for observed in _owing(step, OWED).values()} == {(0, 1)}
