"""What is said of a float64 case whose reference, or whose candidate alone, computes part in float32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from conformance.checks.logic import Logic
from conformance.diagnosis.signatures.arithmetic import computed_in
from conformance.evidence.arithmetic import COMPUTATION, Operation
from conformance.records.results import CaseResult
from tests.engine.specimen import case_run


def _operation() -> Operation:
    return Operation(role=COMPUTATION, tensor="", operation="exp", dtype="float32", place="norm.py:7")


def _rounded(name: str, step: int, value: np.ndarray) -> np.ndarray:
    return value * (1 + 2.0**-25) if name.startswith(("gradients/", "outputs/", "loss")) and step == 0 else value


def test_a_reference_that_computes_in_float32_is_the_yardstick_and_said() -> None:
    made = case_run(_rounded)
    made = replace(made, reference=replace(made.reference, lower=(_operation(),)))
    result = Logic().judge(made)
    assert result.verdict == "pass"
    assert "The reference computes in float32: exp at norm.py:7. It is good to about 1e-07 only" in result.detail
    case = CaseResult(case=made.case, framework="jax", verdict="pass", checks=(result,))
    assert case.spoken == "pass, logic not held below float32 rounding"


def test_a_candidate_that_alone_computes_in_float32_fails_and_is_told_where() -> None:
    made = case_run(_rounded, arithmetic=(_operation(),))
    result = Logic().judge(made)
    assert result.verdict == "fail"
    assert "The candidate computes in float32: exp at norm.py:7." in result.detail
    assert next(computed_in(made)).cause == "computed in float32: exp at norm.py:7"


def test_what_is_farther_off_than_float32_rounding_is_no_matter_of_it() -> None:
    made = case_run(lambda name, step, value: value * 1.01, arithmetic=(_operation(),))
    assert Logic().judge(made).verdict == "fail"
    assert not list(computed_in(made))


def test_nothing_is_said_where_both_compute_in_float64() -> None:
    result = Logic().judge(case_run())
    assert (result.verdict, result.detail, result.not_held) == ("pass", "", "")
