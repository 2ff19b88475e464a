"""A learning rate that is another one in a later step is told by all updates of that step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Block
from conformance.records.results import Cause
from conformance.runner.judge import judge
from tests.engine.specimen import MESH, case_run, reference, with_blocks

FIRST = reference().oracle[0]
LATE = "right in step 1, wrong afterwards"


def _causes(made: CaseRun) -> list[Cause]:
    return [cause for result in judge(made) for cause in result.diagnosis]


def _at_another_rate(concerns: Callable[[str], bool] = lambda name: True) -> Callable[[str, int, np.ndarray], object]:
    """What the second step adds to parameters is two thirds of what it should be."""

    def change(name: str, step: int, value: np.ndarray) -> np.ndarray:
        if step != 1 or not name.startswith("updates/") or not concerns(name):
            return value
        return FIRST[name] + (value - FIRST[name]) * 2 / 3

    return change


def test_every_update_of_a_later_step_is_the_same_multiple() -> None:
    best = _causes(case_run(_at_another_rate()))[0]
    assert (best.cause, best.axis) == ("learning rate 0.6667 times what it should be in step 2", None)
    assert (best.confidence, best.place) == (0.85, False)


def test_without_slots_clipping_may_be_what_it_is() -> None:
    made = case_run(_at_another_rate())
    steps = tuple(
        {name: seen for name, seen in step.items() if not name.startswith("optimizer/")} for step in made.evidence.steps
    )
    best = _causes(replace(made, evidence=replace(made.evidence, steps=steps)))
    assert any("or what gradients are clipped by, 0.6667 times" in cause.cause for cause in best)


def test_of_one_update_alone_no_rate_is_said() -> None:
    causes = _causes(case_run(_at_another_rate(lambda name: name == "updates/w")))
    assert not any("learning rate" in cause.cause for cause in causes)
    assert any((cause.cause, cause.place) == (LATE, True) for cause in causes), "and no state is said to be lost"


def test_of_wrong_gradients_no_rate_is_said() -> None:
    change = _at_another_rate()
    made = case_run(
        lambda name, step, value: value * 1.3 if (name, step) == ("gradients/w", 1) else change(name, step, value)
    )
    assert not any("learning rate" in cause.cause for cause in _causes(made))


def test_of_some_copies_alone_no_rate_is_said() -> None:
    made = case_run(_at_another_rate(lambda name: name == "updates/w"))
    right = case_run().evidence.steps[1]["parameters/b"]
    first = FIRST["updates/b"] + reference().initial["b"]

    def alter(block: Block) -> Block:
        wrong = first + (right.blocks[0].value - first) * 2 / 3
        return replace(block, value=wrong) if MESH.coordinates(block.ranks[0])["data"] == 1 else block

    assert not any("learning rate" in cause.cause for cause in _causes(with_blocks(made, 1, "parameters/b", alter)))
