"""Elements that some ranks along an axis store, and not all: a mean over them, and how often they count in the norm."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Block
from conformance.records.results import Cause
from conformance.runner.judge import judge
from tests.engine.specimen import MESH, case_run, reference, with_blocks

ORACLE = reference().oracle[0]
NORM = float(ORACLE["metrics/grad_norm"])
OF_W = float(np.sum(ORACLE["gradients/w"] ** 2))
OF_FIRST = float(np.sum(ORACLE["gradients/w"][:, :4] ** 2))
MEAN = "a mean over the ranks that store the same elements, where their sum is meant"
TWICE = "summed once more over the ranks that store the same elements"
COUNTED = "elements that several ranks along the axis store count once for each of them in the norm"


def _run(*, gradient: float = 1.0, norm: float = NORM, bias: float = 1.0) -> CaseRun:
    """Two ranks of four along tensor store each column of w's gradient, which is so many times the right one."""

    def change(name: str, step: int, value: np.ndarray) -> np.ndarray:
        if step:
            return value
        return {"metrics/grad_norm": np.asarray(norm), "gradients/b": value * bias}.get(name, value)

    def alter(block: Block) -> Block:
        half = MESH.coordinates(block.ranks[0])["tensor"] // 2
        columns = slice(4 * half, 4 * half + 4)
        return Block(
            ranks=block.ranks,
            index=(slice(0, 6), columns),
            value=np.array(ORACLE["gradients/w"][:, columns]) * gradient,
        )

    return with_blocks(case_run(change), 0, "gradients/w", alter)


def _causes(made: CaseRun) -> list[Cause]:
    return [cause for result in judge(made) for cause in result.diagnosis]


@pytest.mark.parametrize(
    ("made", "cause"),
    [
        (_run(gradient=0.5), MEAN),
        (_run(gradient=2.0), TWICE),
        (_run(norm=np.sqrt(NORM**2 + OF_W)), COUNTED),
    ],
)
def test_a_repeated_element_is_told_by_the_number_of_its_ranks(made: CaseRun, cause: str) -> None:
    best = _causes(made)[0]
    assert (best.cause, best.axis, best.place) == (cause, "tensor", False)
    assert best.confidence >= 0.9


@pytest.mark.parametrize(
    "made",
    [
        _run(),
        _run(gradient=0.25),  # of as many as the axis has ranks
        _run(gradient=0.5, bias=0.5),  # what is not repeated is halved too
        _run(bias=0.5),
        _run(norm=np.sqrt(NORM**2 + OF_FIRST)),  # only some of them
        _run(norm=np.sqrt(2) * NORM),
    ],
)
def test_of_what_is_wrong_otherwise_nothing_of_repeats_is_said(made: CaseRun) -> None:
    assert not any(cause.cause in (MEAN, TWICE, COUNTED) for cause in _causes(made))


def test_what_no_two_ranks_or_all_of_them_store_is_not_repeated() -> None:
    for factor in (0.5, 2.0):
        made = case_run(lambda name, step, value, factor=factor: value * factor if name == "gradients/w" else value)
        assert not any(cause.cause in (MEAN, TWICE) for cause in _causes(made))
