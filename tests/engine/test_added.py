"""Shards that are added together: every rank along an axis has the sum of those of all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Block
from conformance.records.results import Cause
from conformance.runner.judge import judge
from tests.engine import specimen
from tests.engine.specimen import MESH, case_run, reference, with_blocks

GRADIENT = reference().oracle[0]["gradients/w"]
ADDED = "different shards are added together"


def _run(held: dict[int, np.ndarray], width: int) -> CaseRun:
    """What each position along tensor has of the gradient of w, of which it stores so many of eight columns."""

    def alter(block: Block) -> Block:
        position = MESH.coordinates(block.ranks[0])["tensor"]
        start = width * (position * 8 // (4 * width))
        return Block(ranks=block.ranks, index=(slice(0, 6), slice(start, start + width)), value=held[position])

    return with_blocks(case_run(), 0, "gradients/w", alter)


def _causes(made: CaseRun) -> list[Cause]:
    return [cause for result in judge(made) for cause in result.diagnosis if ADDED in cause.cause]


def _shards(width: int) -> list[np.ndarray]:
    return np.split(GRADIENT, 8 // width, axis=1)


@pytest.mark.parametrize(("width", "times"), [(2, 1), (4, 1), (4, 2)])
def test_a_sum_over_ranks_that_hold_different_shards(width: int, times: int) -> None:
    whole = times * np.sum(_shards(width), axis=0)
    best = _causes(_run(dict.fromkeys(range(4), whole), width))[0]
    assert (best.axis, best.confidence, best.place) == ("tensor", 0.95, False)
    assert ("store the same elements" in best.cause) is (width == 4)


@pytest.mark.parametrize("width", [2, 4])
def test_other_sums_and_right_shards_are_none(width: int) -> None:
    shards = _shards(width)
    own = {position: shards[position * len(shards) // 4] for position in range(4)}
    assert not _causes(_run(own, width))
    assert not _causes(_run({position: len(shards) * shard for position, shard in own.items()}, width))
    some = np.sum(shards[:-1], axis=0)
    assert not _causes(_run(dict.fromkeys(range(4), some + (0 if width == 2 else 1)), width))
    first_alone = own | {0: np.sum(shards, axis=0)}
    assert not _causes(_run(first_alone, width))


def test_the_sum_of_shards_that_are_alike_is_a_multiple_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the gradients of a mean over ranks are: summed where they are to be averaged."""
    made = reference()
    alike = made.oracle[0] | {"gradients/w": np.tile(GRADIENT[:, :2], (1, 4))}
    monkeypatch.setattr(specimen, "reference", lambda: replace(made, oracle=(alike, *made.oracle[1:])))
    results = judge(_run(dict.fromkeys(range(4), 4 * GRADIENT[:, :2]), 2))
    causes = [cause.cause for result in results for cause in result.diagnosis]
    assert any("summed twice" in cause for cause in causes)
    assert not any(ADDED in cause for cause in causes)
