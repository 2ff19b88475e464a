"""Trials name the axis and the feature with which a fault goes, and nothing where it goes with several or with none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from conformance.cases.case import Case, Mutation
from conformance.cases.resolve import Target
from conformance.contract.contract import Precision, Recipe
from conformance.contract.mesh import Mesh
from conformance.diagnosis.bisection import ALONE, SHOWN, Judged, bisected
from conformance.records.results import CaseResult, Cause, CheckResult
from tests.engine.specimen import contract

CASE = Case(contract="made/up", implementation="jax-made", mesh=Mesh.parse("data=2,tensor=4"), dtype="float64")
RECIPE = Recipe(accumulation=3, shares=(3, 2, 1), clip_norm=0.5, precision=Precision(compute="bfloat16"))
TARGET = Target(contract=contract(recipe=RECIPE), framework="jax", path="made:Up")
GUESS = Cause(cause="scaled by 1.1", axis=None, confidence=0.3)


def _failed(*causes: Cause) -> CaseResult:
    passed = CheckResult(check="census", verdict="pass", compared=1)
    failed = CheckResult(check="logic", verdict="fail", compared=1, diagnosis=causes)
    return CaseResult(case=CASE, framework="jax", verdict="fail", checks=(passed, failed))


def _judged(passes: Callable[[Case, Target], bool], *diagnosis: Cause) -> Judged:
    """A judge by whom a case passes, or fails with a diagnosis."""

    def judged(case: Case, target: Target) -> CaseResult:
        return replace(_failed(*diagnosis), case=case, verdict="pass" if passes(case, target) else "fail")

    return judged


def _divided(case: Case) -> bool:
    return case.mesh.devices > 1


def _surest(result: CaseResult) -> Cause:
    assert result.checks[0].diagnosis == ()
    return result.checks[1].diagnosis[0]


def test_the_axis_that_alone_makes_it_pass_is_named() -> None:
    result = bisected(_failed(GUESS), TARGET, _judged(lambda case, target: case.mesh.size("tensor") == 1))
    assert _surest(result) == Cause(cause="scaled by 1.1", axis="tensor", confidence=SHOWN)


def test_the_feature_that_alone_makes_it_pass_is_named() -> None:
    result = bisected(
        _failed(GUESS),
        TARGET,
        _judged(lambda case, target: target.contract.recipe.accumulation == 1 or not _divided(case)),
    )
    assert _surest(result) == Cause(cause="goes away without accumulation", axis=None, confidence=SHOWN)
    assert GUESS in result.checks[1].diagnosis


def test_axes_each_of_which_makes_it_pass_are_named_together() -> None:
    result = bisected(_failed(GUESS), TARGET, _judged(lambda case, target: target == TARGET))
    words = "takes data and tensor together: it goes away when any of them has size 1"
    assert _surest(result) == Cause(cause=words, axis=None, confidence=SHOWN)
    likely = _failed(Cause(cause="constant on positions [1]", axis="data", confidence=0.6))
    assert bisected(likely, TARGET, _judged(lambda case, target: target == TARGET)) == likely


def test_a_feature_is_left_out_whole_and_the_rest_stays() -> None:
    seen = {}

    def passes(case: Case, target: Target) -> bool:
        seen[case.contract] = target.contract.recipe
        return not _divided(case)

    assert bisected(_failed(GUESS), TARGET, _judged(passes)) == _failed(GUESS)
    assert seen.pop("made/up") == RECIPE  # the meshes without an axis
    assert seen == {
        "made/up~accumulation": replace(RECIPE, accumulation=1, shares=()),
        "made/up~clipping": replace(RECIPE, clip_norm=None),
        "made/up~precision": replace(RECIPE, precision=Precision()),
    }


def test_the_law_that_would_bring_a_feature_back_is_left_out_with_it() -> None:
    lawful = replace(TARGET, contract=replace(TARGET.contract, relations=("accumulation", "checkpoint")))

    def passes(case: Case, target: Target) -> bool:
        without = target.contract.recipe.accumulation == 1 and target.contract.relations == ("checkpoint",)
        return without or not _divided(case)

    assert _surest(bisected(_failed(GUESS), lawful, _judged(passes))).cause == "goes away without accumulation"


def test_what_fails_on_one_device_too_lies_on_no_axis_and_is_diagnosed_there() -> None:
    on_an_axis = _failed(Cause(cause="wrong on positions [1]", axis="data", confidence=0.7))
    mask = Cause(cause="another mask was drawn", axis=None, confidence=0.9)
    surely = bisected(_failed(mask), TARGET, _judged(lambda case, target: "~" in target.contract.name, mask))
    assert _surest(surely).cause == f"{mask.cause}, on one device too", "no feature is left out"
    for there, words in (((), ALONE), ((GUESS,), ALONE), ((mask,), f"{mask.cause}, on one device too")):
        result = bisected(on_an_axis, TARGET, _judged(lambda case, target: False, *there))
        assert result.checks[1].diagnosis == (Cause(cause=words, axis=None, confidence=SHOWN),)


def test_on_one_device_too_features_are_left_out() -> None:
    result = bisected(_failed(GUESS), TARGET, _judged(lambda case, target: target.contract.recipe.clip_norm is None))
    assert _surest(result) == Cause(cause=f"goes away without clipping; {ALONE}", axis=None, confidence=SHOWN)


def test_what_goes_with_everything_is_nobodys() -> None:
    assert bisected(_failed(GUESS), TARGET, _judged(lambda case, target: True)) == _failed(GUESS)


@pytest.mark.parametrize("sure", [True, False])
def test_nothing_is_tried_where_a_signature_is_sure_or_another_program_ran(sure: bool) -> None:
    found = _failed(Cause(cause="summed twice", axis="data", confidence=0.95) if sure else GUESS)
    mutant = replace(found, case=replace(CASE, mutation=Mutation(operator="drop", site=1)))

    def never(case: Case, target: Target) -> CaseResult:
        raise AssertionError("tried")

    assert bisected(found if sure else mutant, TARGET, never) == (found if sure else mutant)
