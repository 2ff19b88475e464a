"""Each kind of difference between what is declared and what a step communicates is a finding that names its tensor."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conformance.checks.communication import Communication
from conformance.checks.differences import differences
from conformance.contract.implementation import Declarations, Portion, Traffic
from tests.engine.specimen import case_run

WEIGHT, BIAS = Portion(tensor="gradients/w", calls=1, bytes=192), Portion(tensor="gradients/b", calls=1, bytes=64)
SUMS = Traffic(
    kind="all_reduce", axes=("data",), phase="update", dtype="float64", calls=2, bytes=256, portions=(WEIGHT, BIAS)
)
GATHERS = Traffic(
    kind="all_gather", axes=("tensor",), phase="forward", dtype="float64", calls=1, bytes=512,
    portions=(Portion(tensor="parameters/w", calls=1, bytes=512),),
)  # fmt: skip
DECLARED = (SUMS, GATHERS)
SEEN = tuple(
    replace(each, portions=tuple(replace(portion, tensor="") for portion in each.portions)) for each in DECLARED
)


def _seen(which: Traffic, **changes: object) -> tuple[Traffic, ...]:
    unnamed = tuple(replace(portion, tensor="") for portion in which.portions)
    return tuple(
        replace(each, **{"portions": unnamed, **changes}) if each == which else each
        for each in SEEN  # type: ignore[arg-type]
    )


MISTAKES = {
    "missing": (_seen(SUMS, calls=1, bytes=64, portions=(replace(BIAS, tensor=""),)), "gradients/w"),
    "extra": (_seen(SUMS, calls=3, bytes=448, portions=(replace(WEIGHT, calls=2), BIAS)), "gradients/w"),
    "wrong axis": (_seen(GATHERS, axes=("data",)), "parameters/w"),
    "wrong size": (_seen(GATHERS, bytes=256, portions=(Portion(tensor="", calls=1, bytes=256),)), "parameters/w"),
    "wrong dtype": (
        _seen(GATHERS, dtype="float32", bytes=256, portions=(Portion(tensor="", calls=1, bytes=256),)),
        "parameters/w",
    ),
    "wrong phase": (_seen(GATHERS, phase="backward"), "parameters/w"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_each_kind_of_mistake_is_a_finding_of_its_tensor(what: str) -> None:
    traced, tensor = MISTAKES[what]
    [finding] = differences(DECLARED, traced)
    assert (finding.what, finding.tensors) == (what, (tensor,))
    declarations = replace(case_run().evidence.declarations, traffic=DECLARED)
    checked = Communication().judge(case_run(traffic=traced, declarations=declarations))
    assert checked.verdict == "fail"
    assert checked.detail.startswith(f"{what}: ")
    assert f"of '{tensor}'" in checked.detail


def test_what_is_as_declared_has_none() -> None:
    assert differences(DECLARED, SEEN) == ()


def test_a_dtype_of_the_same_width_is_seen_only_where_one_is_declared() -> None:
    """An outsider may declare calls and bytes alone."""
    narrow = replace(GATHERS, dtype="bfloat16", bytes=128)
    [finding] = differences([narrow], [replace(narrow, dtype="float16")])
    assert finding.what == "wrong dtype"
    assert differences([replace(narrow, dtype=None)], [replace(narrow, dtype="float16")]) == ()
    two = (replace(narrow, calls=1, bytes=96), replace(narrow, dtype="int32", calls=1, bytes=32))
    assert differences([replace(narrow, dtype=None, calls=2)], two) == ()


def test_an_upper_bound_holds_from_above_alone() -> None:
    bound = replace(GATHERS, kind="all_to_all", at_most=True)
    assert differences([bound], []) == ()
    assert differences([bound], [replace(bound, at_most=False, bytes=500)]) == ()
    [larger] = differences([bound], [replace(bound, at_most=False, bytes=513)])
    [more] = differences([bound], [replace(bound, at_most=False, calls=2)])
    assert (larger.what, more.what) == ("wrong size", "extra")
    assert "at most 1 calls of 512 bytes" in larger.sentence


def test_several_mistakes_are_several_findings() -> None:
    """One sum is lost and a gather comes twice: neither is taken for the other."""
    traced = (
        replace(SUMS, calls=1, bytes=64, portions=(BIAS,)), replace(GATHERS, calls=2, bytes=1024),
    )  # fmt: skip
    assert [finding.what for finding in differences(DECLARED, traced)] == ["extra", "missing"]
    declared = Declarations(traffic=DECLARED)
    detail = Communication().judge(case_run(traffic=traced, declarations=declared)).detail
    assert "missing: update all_reduce over data" in detail
    assert "extra: forward all_gather over tensor" in detail
