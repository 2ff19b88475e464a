"""How much each row counts in a gradient tells lost microbatches, lost ranks and means of means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conformance.contract.contract import Recipe
from conformance.diagnosis.signatures.means import MEAN_OF_MEANS
from conformance.diagnosis.signatures.weighed import OF_PARTS, OF_ROWS
from conformance.evidence.comparison import CaseRun
from conformance.records.results import Cause
from conformance.runner.judge import judge
from tests.engine.specimen import case_run, contract, sharded

ROWS = 16  # of which each of the two positions along data has eight
TERMS = np.random.default_rng(3).normal(
    size=(ROWS, 6, 8)
)  # the gradient of w of each row alone: the mean of its elements
ELEMENTS = np.random.default_rng(4).integers(1, 9, ROWS).astype(float)
RIGHT = np.tensordot(ELEMENTS / ELEMENTS.sum(), TERMS, 1)


def _run(weights: np.ndarray, recipe: Recipe, gradient: np.ndarray | None = None, others: float = 1.0) -> CaseRun:
    """A case whose gradient of w is a sum of those of its rows with these weights, where the right ones are known.

    others  what the other gradients are times too large
    """
    held = np.tensordot(weights, TERMS, 1) if gradient is None else gradient

    def handed_over(name: str, step: int, value: np.ndarray) -> np.ndarray:
        if step or not name.startswith("gradients/"):
            return value
        return held if name == "gradients/w" else others * value

    made = case_run(handed_over)
    oracle = (made.reference.oracle[0] | {"gradients/w": RIGHT}, *made.reference.oracle[1:])
    reference = replace(made.reference, oracle=oracle)
    known = {"gradients/w": list(TERMS)}
    return replace(
        made, reference=reference, contract=contract(recipe=recipe), rows=lambda tensor: known.get(tensor, ())
    )


def _best(weights: np.ndarray, gradient: np.ndarray | None = None, others: float = 1.0, **recipe: Any) -> Cause:
    run = _run(weights, Recipe(steps=2, **recipe), gradient, others)
    causes: Sequence[Cause] = next(result.diagnosis for result in judge(run) if result.diagnosis)
    return causes[0]


def _without(rows: slice | list[int]) -> np.ndarray:
    weights = ELEMENTS / ELEMENTS.sum()
    weights[rows] = 0
    return weights


def _own_means(groups: list[np.ndarray]) -> np.ndarray:
    """Every group divides by its own elements, and their mean is taken."""
    weights = np.zeros(ROWS)
    for group in groups:
        weights[group] = ELEMENTS[group] / ELEMENTS[group].sum() / len(groups)
    return weights


EVERY = np.arange(ROWS)
SLICED = [np.concatenate([part[n * 4 : n * 4 + 4] for part in (EVERY[:8], EVERY[8:])]) for n in range(2)]
UNEVEN = [np.concatenate([part[rows] for part in (EVERY[:8], EVERY[8:])]) for rows in (slice(0, 6), slice(6, 8))]


@pytest.mark.parametrize(
    ("weights", "recipe", "cause", "axis"),
    [
        (_without(slice(8, 16)), {}, "reduction missing: rows of positions 1 of data do not count", "data"),
        (_own_means([EVERY[:8], EVERY[8:]]), {}, MEAN_OF_MEANS, "data"),
        (_own_means(SLICED), {"accumulation": 2}, OF_PARTS["slice"], None),
        (_own_means(UNEVEN), {"accumulation": 2, "shares": (3, 1)}, OF_PARTS["slice"], None),
        (
            _without(UNEVEN[0]),
            {"accumulation": 2, "shares": (3, 1)},
            "no gradient arrives from slice 0: 'gradients/w' is without it, other gradients are not",
            None,
        ),
        (_own_means(SLICED), {"microbatches": 2}, OF_PARTS["microbatch"], None),
        (
            _without([0, 1, 8, 9]),
            {"microbatches": 4},
            "no gradient arrives from microbatch 0: 'gradients/w' is without it, other gradients are not",
            None,
        ),
        (np.full(ROWS, 1 / ROWS), {}, OF_ROWS, None),
    ],
)
def test_what_the_weights_of_rows_mean(
    weights: np.ndarray, recipe: dict[str, Any], cause: str, axis: str | None
) -> None:
    best = _best(weights, **recipe)
    assert (best.cause, best.place) == (cause, False)
    assert axis is None or best.axis == axis


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        ([0, 1, 8, 9], "microbatch 0 of the batch: its rows do not count"),
        ([6, 7, 14, 15], "the last microbatch does not count"),
    ],
)
def test_a_microbatch_that_is_in_no_gradient_does_not_count(rows: list[int], cause: str) -> None:
    assert _best(_without(rows), others=0.7, microbatches=4).cause == cause


def test_slices_of_other_sizes_than_the_recipe_says_are_not_spoken_of() -> None:
    best = _best(_own_means(UNEVEN), accumulation=2)
    assert not any(words in best.cause for words in ("slice", "mean of means"))


def _times(rows: list[int], factors: float | list[float]) -> np.ndarray:
    weights = ELEMENTS / ELEMENTS.sum()
    weights[rows] *= factors
    return weights


@pytest.mark.parametrize(
    ("weights", "others", "cause"),
    [
        (_times([0, 1, 2, 3], 2), 1.0, "rows 0, 1, 2, 3 of the batch count wrongly: 2 times instead of once"),
        (_times([3, 5], 0), 0.7, "rows 3, 5 of the batch do not count"),
        (
            _times([3, 5], 0),
            1.0,
            "no gradient arrives from rows 3, 5: 'gradients/w' is without it, other gradients are not",
        ),
    ],
)
def test_how_often_rows_count_says_what_is_wrong(weights: np.ndarray, others: float, cause: str) -> None:
    best = _best(weights, others=others)
    assert (best.cause, best.place) == (cause, False)
    assert best.confidence >= 0.8


@pytest.mark.parametrize("factors", [0.5, [2, 3], [0, 0.3], -1])
def test_rows_without_a_rule_are_told_and_nothing_more(factors: float | list[float]) -> None:
    best = _best(_times([3, 5], factors))
    assert best.cause == "rows 3, 5 of the batch count wrongly"
    assert best.place, "it says where, and not why"


def test_of_a_gradient_of_two_modules_nothing_is_said_and_the_next_one_is_asked() -> None:
    """A tied parameter has lost the rows in one of its modules only."""
    tied = _without([6, 7, 14, 15])
    others = np.random.default_rng(6).normal(size=(ROWS, 40))
    right = np.tensordot(ELEMENTS / ELEMENTS.sum(), others, 1)
    made = _run(tied, Recipe(steps=2, microbatches=4), np.tensordot(tied, TERMS, 1) + 0.1)
    step = made.evidence.steps[0] | {"gradients/v": sharded("gradients/v", np.tensordot(tied, others, 1))}
    oracle = (made.reference.oracle[0] | {"gradients/v": right}, *made.reference.oracle[1:])
    noise = (made.reference.noise[0] | {"gradients/v": np.zeros(40)}, *made.reference.noise[1:])
    known = {"gradients/w": list(TERMS), "gradients/v": list(others)}
    made = replace(
        made,
        evidence=replace(made.evidence, steps=(step, *made.evidence.steps[1:])),
        reference=replace(made.reference, oracle=oracle, noise=noise),
        rows=lambda tensor: known.get(tensor, ()),
    )
    best = next(result.diagnosis for result in judge(made) if result.diagnosis)[0]
    assert (
        best.cause
        == "no gradient arrives from the last microbatch: 'gradients/v' is without it, other gradients are not"
    )


def test_a_gradient_that_is_no_sum_of_those_of_rows_has_no_weights() -> None:
    noise = np.random.default_rng(5).normal(size=(6, 8))
    assert "count" not in _best(np.zeros(ROWS), gradient=noise).cause


def test_a_factor_is_no_weight() -> None:
    best = _best(3.7 * ELEMENTS / ELEMENTS.sum())
    assert "count" not in best.cause
    assert "mean of means" not in best.cause
