"""The valid elements of one part of a batch, taken for those of every part or of all, are told by the factor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conformance.contract.contract import Recipe
from conformance.evidence.comparison import CaseRun
from conformance.records.results import Cause
from conformance.runner.judge import judge
from tests.engine.specimen import case_run, contract, reference, sharded

ROWS = 16  # of which each of the two positions along data has eight
COUNT, LOSS = "metrics/tokens", "loss"
UNEVEN = Recipe(clip_norm=0.5, steps=2, accumulation=2, shares=(1, 3))
OF_LAST = "the number of slices times the valid elements of the last slice"


def _valid(step: int) -> np.ndarray:
    """More in later rows."""
    lengths = np.random.default_rng(step).integers(1, 4, ROWS) + np.arange(ROWS) // 4
    return (np.arange(8) < lengths[:, None]).astype(float)


MASKS = [_valid(0), _valid(1)]
SLICES = [np.arange(ROWS) % 8 < 2, np.arange(ROWS) % 8 >= 2]  # a quarter of the rows of every rank, and the rest
POSITIONS = [np.arange(ROWS) < 8, np.arange(ROWS) >= 8]


def _run(numbers: list[float], recipe: Recipe, *, reported: bool = True, divided: bool = True) -> CaseRun:
    """Gradients and loss are divided by these numbers of valid elements, and they are reported."""
    made, right = reference(), [float(mask.sum()) for mask in MASKS]
    oracle = tuple({**seen, COUNT: np.array(total)} for seen, total in zip(made.oracle, right, strict=True))
    noise = tuple({**seen, COUNT: np.array(0.0)} for seen in made.noise)

    def change(name: str, step: int, value: np.ndarray) -> np.ndarray:
        off = divided and (name == LOSS or name.startswith("gradients/"))
        return value * right[step] / numbers[step] if off else value

    run = case_run(change)
    counts = [
        sharded(COUNT, np.array(number if reported else total)) for number, total in zip(numbers, right, strict=True)
    ]
    steps = tuple({**seen, COUNT: count} for seen, count in zip(run.evidence.steps, counts, strict=True))
    return replace(
        run,
        contract=contract(recipe=recipe, batches=lambda seed, steps: [{"mask": mask} for mask in MASKS[:steps]]),
        reference=replace(run.reference, oracle=oracle, noise=noise),
        evidence=replace(run.evidence, steps=steps, repeated=steps[0]),
    )


def _numbers(rows: np.ndarray, times: int) -> list[float]:
    return [times * float(mask[rows].sum()) for mask in MASKS]


def _causes(made: CaseRun) -> list[Cause]:
    return [cause for result in judge(made) for cause in result.diagnosis]


@pytest.mark.parametrize(
    ("rows", "times", "said", "axis"),
    [
        (SLICES[1], 2, OF_LAST, None),
        (SLICES[0], 2, "the number of slices times the valid elements of the first slice", None),
        (SLICES[1], 1, "the valid elements of the last slice alone", None),
        (POSITIONS[0], 2, "the size of the axis times the valid elements of position 0", "data"),
        (POSITIONS[1], 1, "the valid elements of position 1 alone", "data"),
    ],
)
def test_the_elements_of_one_part_are_told(rows: np.ndarray, times: int, said: str, axis: str | None) -> None:
    for reported in (True, False):
        best = _causes(_run(_numbers(rows, times), UNEVEN, reported=reported))[0]
        shown = best.axis if best.axis_sure > 0.5 else None  # the one axis with traffic there is a guess
        assert (best.cause, shown, best.place) == (f"divided by {said}", axis, False)
        assert best.confidence == (0.95 if reported else 0.85 if axis is None else 0.75)


def test_what_is_only_reported_divides_nothing() -> None:
    causes = _causes(_run(_numbers(SLICES[1], 2), UNEVEN, divided=False))
    assert causes[0].cause == f"reported as {OF_LAST}"
    assert not any(cause.cause.startswith("divided") for cause in causes)


@pytest.mark.parametrize(
    ("numbers", "recipe"),
    [
        ([float(mask.sum()) - 1 for mask in MASKS], UNEVEN),
        ([2 * float(mask.sum()) for mask in MASKS], UNEVEN),
        (_numbers(SLICES[1], 2), Recipe(clip_norm=0.5, steps=2)),  # there are no slices
        ([_numbers(SLICES[1], 2)[0], _numbers(SLICES[0], 2)[1]], UNEVEN),  # by chance, in one step
        (_numbers(np.arange(ROWS) < 7, 1), UNEVEN),  # of rows that are no part
    ],
)
def test_of_other_numbers_no_part_is_said(numbers: list[float], recipe: Recipe) -> None:
    results = judge(_run(numbers, recipe))
    assert any(result.verdict == "fail" for result in results)
    assert not any("the valid elements of" in cause.cause for result in results for cause in result.diagnosis)


def test_of_parts_with_as_many_elements_each_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.engine.test_divisors.MASKS", [np.ones((ROWS, 8))] * 2)
    even = replace(UNEVEN, shares=())
    causes = _causes(_run([64.0, 64.0], even))
    assert causes
    assert not any("the valid elements of" in cause.cause for cause in causes)
