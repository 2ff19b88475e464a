"""What a trace shows beside what is declared: another dtype, more axes, another size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conformance.contract.implementation import Traffic
from conformance.evidence.comparison import CaseRun
from conformance.records.results import Cause
from conformance.runner.judge import judge
from tests.engine.specimen import case_run

GATHER = Traffic(kind="all_gather", axes=("data",), phase="update", calls=3, bytes=480, dtype="float64")
PERMUTE = Traffic(kind="permute", axes=("tensor",), phase="forward", calls=2, bytes=320, dtype="float64")
BACK = replace(PERMUTE, phase="backward")
REDUCE = replace(GATHER, kind="all_reduce")


def _run(declared: list[Traffic], traced: list[Traffic], wrong: str = "updates/w") -> CaseRun:
    """The values of one tensor are wrong; of none where it is empty."""
    made = case_run(lambda name, step, value: value * (1 + 1e-3 * np.arange(8)) if name == wrong else value)
    declarations = replace(made.evidence.declarations, traffic=tuple(declared))
    return replace(made, evidence=replace(made.evidence, traffic=tuple(traced), declarations=declarations))


def _causes(made: CaseRun) -> list[Cause]:
    return [cause for result in judge(made) for cause in result.diagnosis]


def _in(traffic: Traffic, dtype: str, share: float, **changes: Any) -> Traffic:
    return replace(traffic, dtype=dtype, bytes=int(traffic.bytes * share), **changes)


@pytest.mark.parametrize(
    ("declared", "traced", "cause", "axis"),
    [
        (
            [GATHER],
            [_in(GATHER, "bfloat16", 1 / 4)],
            "update all_gather in bfloat16, where float64 is declared",
            "data",
        ),
        (
            [PERMUTE, BACK],
            [_in(PERMUTE, "float32", 1 / 2), _in(BACK, "float32", 1 / 2)],
            "forward and backward permute in float32, where float64 is declared",
            "tensor",
        ),
        (  # some of the calls
            [GATHER],
            [replace(GATHER, calls=2, bytes=320), _in(GATHER, "bfloat16", 1 / 12, calls=1)],
            "update all_gather in bfloat16, where float64 is declared",
            "data",
        ),
        (  # as many bytes
            [replace(GATHER, dtype="float16")],
            [replace(GATHER, dtype="bfloat16")],
            "update all_gather in bfloat16, where float16 is declared",
            "data",
        ),
    ],
)
def test_messages_in_another_dtype(declared: list[Traffic], traced: list[Traffic], cause: str, axis: str) -> None:
    for wrong in ("updates/w", ""):
        causes = _causes(_run(declared, traced, wrong))
        best = max(causes, key=lambda each: each.confidence)
        assert (best.cause, best.axis, best.confidence, best.place) == (cause, axis, 0.92, False)
        assert not any("of another size" in each.cause for each in causes)


def test_of_an_upper_bound_the_dtype_is_said_too() -> None:
    bound = replace(GATHER, at_most=True)
    said = "update all_gather in bfloat16, where float64 is declared"
    assert any(cause.cause == said for cause in _causes(_run([bound], [_in(GATHER, "bfloat16", 1 / 8, calls=2)])))
    more = [GATHER, _in(GATHER, "bfloat16", 1 / 8, calls=2)]
    assert not any("is declared" in cause.cause for cause in _causes(_run([bound], more))), "those are others"
    whole = _in(GATHER, "int32", 1 / 8, calls=2)
    assert not any("is declared" in cause.cause for cause in _causes(_run([bound], [whole])))


@pytest.mark.parametrize(
    "traced",
    [
        _in(GATHER, "bfloat16", 1 / 8),  # half the elements
        _in(GATHER, "bfloat16", 1 / 4, calls=2),
        _in(GATHER, "bfloat16", 1 / 4, axes=("tensor",)),
        GATHER,
    ],
)
def test_of_other_calls_or_other_elements_no_dtype_is_said(traced: Traffic) -> None:
    assert not any("is declared" in cause.cause for cause in _causes(_run([GATHER], [traced])))


def test_what_travels_wider_than_declared_makes_nothing_wrong() -> None:
    declared, traced = [_in(GATHER, "bfloat16", 1 / 4)], [GATHER]
    said = "update all_gather in float64, where bfloat16 is declared"
    sure = {
        wrong: [cause.confidence for cause in _causes(_run(declared, traced, wrong)) if cause.cause == said]
        for wrong in ("updates/w", "")
    }
    assert max(sure["updates/w"]) < 0.5
    assert max(sure[""]) == 0.92


def test_what_comes_after_a_wrong_output_is_not_why() -> None:
    causes = _causes(_run([GATHER], [_in(GATHER, "bfloat16", 1 / 4)], "outputs/y"))
    assert all(cause.confidence < 0.5 for cause in causes if "is declared" in cause.cause)


@pytest.mark.parametrize(
    ("declared", "traced", "axis"),
    [
        (("data",), ("data", "tensor"), "tensor"),
        (("data", "tensor"), ("tensor",), "data"),
        (("data",), ("tensor",), "data"),
    ],
)
def test_over_other_axes_the_axis_is_the_one_by_which_they_differ(
    declared: tuple[str, ...], traced: tuple[str, ...], axis: str
) -> None:
    causes = _causes(_run([replace(REDUCE, axes=declared)], [replace(REDUCE, axes=traced)], "gradients/w"))
    words = f"update all_reduce over {'+'.join(traced)} instead of {'+'.join(declared)}"
    assert [cause.axis for cause in causes if cause.cause == words][:1] == [axis]


def test_another_size_is_a_place_where_values_are_wrong_too() -> None:
    traced = [replace(GATHER, bytes=240)]
    words = "update all_gather of another size: 480 bytes declared, 240 traced"
    for wrong, place in (("updates/w", True), ("", False)):
        [cause] = {cause.place for cause in _causes(_run([GATHER], traced, wrong)) if cause.cause == words}
        assert cause is place
