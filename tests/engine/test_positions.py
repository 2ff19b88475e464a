"""What some ranks do otherwise with their copy of a parameter is told with their positions: decay, learning rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from conformance.diagnosis.signatures.decay import decayed
from conformance.diagnosis.signatures.rates import rate_on_positions
from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Block
from conformance.records.results import Cause
from conformance.runner.judge import judge
from tests.engine.specimen import LAYOUT, MESH, case_run, contract, reference, with_blocks

START, FIRST, RECIPE = reference().initial["b"], reference().oracle[0]["updates/b"], contract().recipe
DECAY = RECIPE.learning_rate * RECIPE.weight_decay * START
Wrong = Callable[[dict[str, int]], np.ndarray]  # coordinates of a rank -> what its update has more


def _run(more: Wrong) -> CaseRun:
    """The bias, of which every rank has a copy, is updated by more on some of them."""

    def alter(block: Block) -> Block:
        return replace(block, value=START + FIRST + more(MESH.coordinates(block.ranks[0])))

    return with_blocks(case_run(), 0, "parameters/b", alter)


def _causes(more: Wrong) -> list[Cause]:
    return [cause for result in judge(_run(more)) for cause in result.diagnosis]


def _on(axis: str, positions: tuple[int, ...], more: np.ndarray) -> Wrong:
    return lambda place: more * (place[axis] in positions)


@pytest.mark.parametrize(
    ("more", "cause", "axis"),
    [
        (_on("data", (1,), DECAY), "weight decay not applied, on positions [1]", "data"),
        (_on("tensor", (0, 2), -DECAY), "weight decay applied once too often, on positions [0, 2]", "tensor"),
        (_on("tensor", (3,), 0.3 * DECAY), "weight decay of another size, on positions [3]", "tensor"),
        (_on("data", (1,), 2 * FIRST), "learning rate 3 times what it should be, on positions [1]", "data"),
        (
            _on("tensor", (1, 2), -0.5 * FIRST),
            "learning rate 0.5 times what it should be, on positions [1, 2]",
            "tensor",
        ),
    ],
)
def test_why_copies_of_some_positions_are_wrong(more: Wrong, cause: str, axis: str) -> None:
    best = _causes(more)[0]
    assert (best.cause, best.axis, best.place) == (cause, axis, False)
    assert best.confidence >= 0.8


@pytest.mark.parametrize(
    "more",
    [
        lambda place: DECAY * place["tensor"],  # as often as the position says
        lambda place: DECAY * (place["data"] == 1) * (place["tensor"] == 2),  # on one rank alone
        _on("data", (1,), DECAY + np.arange(8.0)),
        _on("data", (1,), -FIRST),  # never updated
    ],
)
def test_of_copies_that_are_wrong_otherwise_nothing_of_decay_and_rates_is_said(more: Wrong) -> None:
    assert not any("decay" in cause.cause or "learning rate" in cause.cause for cause in _causes(more))


def test_what_one_rank_of_an_axis_alone_holds_has_no_other_positions() -> None:
    made = _run(_on("data", (1,), DECAY))
    observed = made.steps[0]["updates/b"]
    held = tuple(block for block in observed.blocks if MESH.coordinates(block.ranks[0])["data"] == 1)
    [whole] = [other for other in made.comparisons if (other.step, other.tensor) == (0, "updates/b")]
    suspect = DivergedTensor(comparison=replace(whole, observed=replace(observed, blocks=held)), case_run=made)
    assert LAYOUT["b"] == {}
    assert [cause.cause for cause in (*decayed(suspect), *rate_on_positions(suspect))] == ["weight decay not applied"]
