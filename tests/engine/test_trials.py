"""Bisection names the axes and the feature with which a fault goes, refutes causes elsewhere, and lifts none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from conformance.cases.case import Case, Mutation
from conformance.cases.resolve import Target
from conformance.contract.contract import Precision, Recipe
from conformance.contract.mesh import Mesh
from conformance.diagnosis import UNKNOWN
from conformance.diagnosis.bisection import bisected
from conformance.diagnosis.conclusion import ALONE, CERTAIN, GONE, SHOWN, Shown, concluded
from conformance.diagnosis.signatures.scale import SLICES
from conformance.evidence.intermediates import Intermediate, Intermediates
from conformance.records.results import CaseResult, Cause, CheckResult
from tests.engine.specimen import contract

CASE = Case(contract="made/up", implementation="jax-made", mesh=Mesh.parse("data=2,tensor=4"), dtype="float64")
RECIPE = Recipe(accumulation=3, shares=(3, 2, 1), clip_norm=0.5, precision=Precision(compute="bfloat16"))
TARGET = Target(contract=contract(recipe=RECIPE), framework="jax", path="made:Up")
GUESS = Cause(cause="scaled by 1.1", axis=None, confidence=0.3, basis="it is 1.1 times what it should be")
MASK = Cause(cause="another mask was drawn", axis=None, confidence=0.9, basis="it holds zeros and ones")


def _failed(*causes: Cause, mesh: str = "data=2,tensor=4") -> CaseResult:
    passed = CheckResult(check="census", verdict="pass", compared=1)
    failed = CheckResult(check="logic", verdict="fail", compared=1, diagnosis=causes)
    case = replace(CASE, mesh=Mesh.parse(mesh))
    return CaseResult(case=case, framework="jax", verdict="fail", checks=(passed, failed))


class Varied:
    """Variations by a function; no program shows its values."""

    def __init__(self, judge: Callable[[Case, Target], CaseResult | None]) -> None:
        self.judge = judge

    def __call__(self, case: Case, target: Target) -> CaseResult | None:
        return self.judge(case, target)

    def values(self, case: Case, target: Target) -> None:
        """Nothing is known."""

    def losses_of_parts(self, case: Case, target: Target, parts: int) -> tuple[float, ...]:
        return ()

    def reference_values(self, case: Case, target: Target) -> None:
        """Nothing is known."""


def _judged(passes: Callable[[Case, Target], bool], *diagnosis: Cause) -> Varied:
    """A judge by whom a case passes, or fails with a diagnosis."""

    def judged(case: Case, target: Target) -> CaseResult:
        return replace(_failed(*diagnosis), case=case, verdict="pass" if passes(case, target) else "fail")

    return Varied(judged)


def _divided(case: Case) -> bool:
    return case.mesh.devices > 1


def _causes(result: CaseResult) -> dict[str, tuple[str | None, float, float]]:
    """cause -> axis, how sure the cause is, how sure the axis"""
    assert result.checks[0].diagnosis == ()
    shown = (ALONE, GONE, "goes away", "takes", "shows on")
    assert all(cause.basis for cause in result.checks[1].diagnosis if cause.cause.startswith(shown))
    return {cause.cause: (cause.axis, cause.confidence, cause.axis_sure) for cause in result.checks[1].diagnosis}


def test_the_axis_that_alone_makes_it_pass_is_named_and_makes_no_cause_surer() -> None:
    causes = _causes(bisected(_failed(GUESS), TARGET, _judged(lambda case, target: case.mesh.size("tensor") == 1)))
    assert causes == {GONE: ("tensor", SHOWN, CERTAIN), GUESS.cause: ("tensor", GUESS.confidence, CERTAIN)}


def test_a_cause_on_an_axis_without_which_it_fails_is_refuted() -> None:
    seam = Cause(cause="wrong only where shards meet", axis="data", confidence=0.88, axis_confidence=0.5, place=True)
    causes = _causes(bisected(_failed(seam), TARGET, _judged(lambda case, target: case.mesh.size("tensor") == 1)))
    assert causes == {GONE: ("tensor", SHOWN, CERTAIN)}


def test_a_sure_cause_is_confirmed_by_one_run() -> None:
    sums = Cause(cause="partial sums", axis="data", confidence=0.97, axis_confidence=0.85)
    ran: list[Case] = []

    def passes(case: Case, target: Target) -> bool:
        ran.append(case)
        return case.mesh.size("data") == 1

    result = bisected(_failed(sums), TARGET, _judged(passes))
    assert result.checks[1].diagnosis[0] == replace(sums, axis_confidence=CERTAIN)
    assert [str(case.mesh) for case in ran] == ["data=1,tensor=4"]


def test_one_device_decides_before_a_factor_that_happens_to_be_the_size_of_an_axis() -> None:
    half = Cause(cause="a mean where a sum is meant", axis="data", confidence=0.9, axis_confidence=0.5)
    causes = _causes(bisected(_failed(half), TARGET, _judged(lambda case, target: False)))
    assert causes == {ALONE: (None, SHOWN, 0.0)}


@pytest.mark.parametrize("cause", [GUESS, Cause(cause=UNKNOWN, axis="data", confidence=0.1)])
def test_on_a_mesh_of_one_axis_one_device_shows_the_axis(cause: Cause) -> None:
    result = bisected(_failed(cause, mesh="data=4"), TARGET, _judged(lambda case, target: not _divided(case)))
    first = result.checks[1].diagnosis[0]
    assert (first.cause, first.axis, first.confidence, first.axis_confidence) == (GONE, "data", SHOWN, CERTAIN)


def test_the_feature_that_alone_makes_it_pass_is_named() -> None:
    result = bisected(
        _failed(GUESS),
        TARGET,
        _judged(lambda case, target: target.contract.recipe.accumulation == 1 or not _divided(case)),
    )
    first = result.checks[1].diagnosis[0]
    assert (first.cause, first.axis) == ("goes away without accumulation", "data")
    assert "fails without clipping" in first.basis
    assert GUESS.cause in _causes(result)


def test_a_cause_that_a_feature_has_refuted_is_not_said() -> None:
    slices = Cause(cause=SLICES, axis=None, confidence=0.6)
    without = _judged(lambda case, target: case.mesh.size("data") == 1)
    assert SLICES not in _causes(bisected(_failed(slices), TARGET, without))
    with_it = _judged(lambda case, target: target.contract.recipe.accumulation == 1 or not _divided(case))
    assert SLICES in _causes(bisected(_failed(slices), TARGET, with_it))


def test_axes_each_of_which_makes_it_pass_are_named_together() -> None:
    causes = bisected(_failed(GUESS), TARGET, _judged(lambda case, target: target == TARGET)).checks[1].diagnosis
    words = "takes data and tensor together: it goes away when any of them has size 1"
    assert [(cause.cause, cause.axis) for cause in causes[:2]] == [(words, "data"), (words, "tensor")]


def test_axes_each_of_which_is_enough_are_named_too() -> None:
    causes = bisected(_failed(GUESS), TARGET, _judged(lambda case, target: not _divided(case))).checks[1].diagnosis
    words = "shows on data and tensor alone: it goes away when all axes have size 1"
    assert [(cause.cause, cause.axis) for cause in causes[:2]] == [(words, "data"), (words, "tensor")]
    assert "without accumulation and without clipping" in causes[0].basis, "what was ruled out is said"


def test_a_feature_is_left_out_whole_and_the_rest_stays() -> None:
    seen = {}

    def passes(case: Case, target: Target) -> bool:
        seen[case.contract] = target.contract.recipe
        return not _divided(case)

    bisected(_failed(GUESS), TARGET, _judged(passes))
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

    assert "goes away without accumulation" in _causes(bisected(_failed(GUESS), lawful, _judged(passes)))


def test_what_fails_on_one_device_too_lies_on_no_axis_and_is_diagnosed_there() -> None:
    where = Cause(cause="wrong on positions [1]", axis="data", confidence=0.88, axis_confidence=0.7, place=True)
    for there, first in (((), ALONE), ((GUESS,), ALONE), ((MASK,), f"{MASK.cause}, on one device too")):
        causes = _causes(bisected(_failed(where), TARGET, _judged(lambda case, target: False, *there)))
        assert next(iter(causes)) == first
        assert causes[ALONE] == (None, SHOWN, 0.0)
        assert causes[where.cause] == ("data", 0.5, 0.3), "where it shows is said beside it, and is not believed"


def test_a_sure_cause_on_one_device_needs_no_feature() -> None:
    result = bisected(_failed(MASK), TARGET, _judged(lambda case, target: "~" in target.contract.name, MASK))
    assert next(iter(_causes(result))) in (MASK.cause, f"{MASK.cause}, on one device too")


def test_on_one_device_too_features_are_left_out() -> None:
    result = bisected(_failed(GUESS), TARGET, _judged(lambda case, target: target.contract.recipe.clip_norm is None))
    assert next(iter(_causes(result))) == f"goes away without clipping; {ALONE}"


def test_a_mutant_is_looked_for_on_narrower_meshes_and_its_features_are_not_taken_away() -> None:
    result = _failed(GUESS)
    mutant = replace(result, case=replace(CASE, mutation=Mutation(operator="drop", site=1)))

    def judged(case: Case, target: Target) -> CaseResult | None:
        assert target == TARGET, "no feature is left out: its collectives would have other numbers"
        return None if case.mesh.size("data") == 1 else replace(result, case=case, verdict="pass")

    assert _causes(bisected(mutant, TARGET, Varied(judged)))[GONE] == ("tensor", SHOWN, CERTAIN)


def test_the_same_on_an_axis_that_is_refuted_makes_what_is_left_surer() -> None:
    """Of two axes of one size either may be meant: where it is not the one, it is the other."""
    either = [
        Cause(cause="summed twice", axis=axis, confidence=0.45, axis_confidence=0.25, basis="it is twice too large")
        for axis in ("data", "tensor")
    ]
    other = replace(either[0], basis="something else is twice too large")
    result = bisected(_failed(*either, other), TARGET, _judged(lambda case, target: case.mesh.size("tensor") == 1))
    assert _causes(result)["summed twice"] == ("tensor", 0.9, CERTAIN)


class Asked(Varied):
    """Notes of which cases the values are asked."""

    def __init__(self, judge: Callable[[Case, Target], CaseResult | None]) -> None:
        super().__init__(judge)
        self.asked: list[tuple[str, str]] = []

    def values(self, case: Case, target: Target) -> None:
        self.asked.append((case.contract, str(case.mesh)))


def _asked(passes: Callable[[Case, Target], bool]) -> list[tuple[str, str]]:
    varied = Asked(_judged(passes, GUESS).judge)
    bisected(_failed(GUESS), TARGET, varied)
    return varied.asked


def test_values_are_compared_without_slices_and_then_on_the_axis_alone() -> None:
    """A part of the rows, cut into slices, is no part of a slice of all rows."""
    plain = "made/up~accumulation"
    asked = _asked(lambda case, target: case.mesh.size("tensor") == 1)
    assert asked[:2] == [(plain, "data=2,tensor=4"), (plain, "data=1,tensor=1")]
    assert (plain, "data=1,tensor=4") in asked


def test_values_are_compared_with_slices_where_it_takes_them() -> None:
    asked = _asked(lambda case, target: case.mesh.size("tensor") == 1 or target.contract.recipe.accumulation == 1)
    assert {contract for contract, _ in asked} == {"made/up"}


class ShownWide(Asked):
    """On the whole mesh an operation makes more than on one device; on one axis nothing is seen."""

    def values(self, case: Case, target: Target) -> Intermediates | None:  # type: ignore[override]
        if case.mesh.size("data") == 1 and case.mesh.devices > 1:
            return None
        made = np.arange(1.5, 9.5) * (1.5 if case.mesh.devices > 1 else 1)
        blocks = dict.fromkeys(range(case.mesh.devices), made)
        value = Intermediate(number=0, operation="sin", place="a.py:1", phase="forward", sources=(), values=blocks)
        return Intermediates(values=(value,))


def test_what_the_whole_mesh_shows_is_kept_where_one_axis_shows_nothing() -> None:
    varied = ShownWide(_judged(lambda case, target: case.mesh.size("tensor") == 1, GUESS).judge)
    causes = _causes(bisected(_failed(GUESS), TARGET, varied))
    assert any(cause.startswith("parts from what one device has: sin at a.py:1") for cause in causes)


def test_values_of_the_first_step_say_nothing_of_what_shows_in_a_later_one() -> None:
    varied = Asked(_judged(lambda case, target: not _divided(case), GUESS).judge)
    failed = _failed(GUESS)
    late = replace(failed, checks=tuple(replace(check, first="step 2: loss") for check in failed.checks))
    bisected(late, TARGET, varied)
    assert varied.asked == []


@pytest.mark.parametrize("check", ["communication", "memory", "layout"])
def test_of_what_is_sent_or_stored_values_say_nothing(check: str) -> None:
    varied = Asked(_judged(lambda case, target: not _divided(case), GUESS).judge)
    failed = _failed(GUESS)
    others = tuple(replace(each, check=check) if each.verdict == "fail" else each for each in failed.checks)
    bisected(replace(failed, checks=others), TARGET, varied)
    assert varied.asked == []


def test_a_line_on_an_axis_that_is_refuted_hides_no_axis_that_is_shown() -> None:
    line = Cause(cause="parts here", axis="data", confidence=0.86, basis="first", place=True)
    shown = Shown(needed=("tensor",), spared=("data",), divergence=(line,))
    [check] = [check for check in concluded(_failed(), shown).checks if check.verdict == "fail"]
    assert [(cause.cause, cause.axis) for cause in check.diagnosis] == [(GONE, "tensor")]
