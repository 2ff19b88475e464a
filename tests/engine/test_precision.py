"""The check `numerics` holds a program to the precision policy by the arithmetic read from it, not by values alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from specimen import case_run, contract

from conformance.checks.numerics import Numerics
from conformance.contract.contract import Precision
from conformance.contract.implementation import Declarations
from conformance.evidence.arithmetic import GRADIENTS, REDUCTION, STATISTICS, Operation
from conformance.evidence.comparison import CaseRun
from conformance.runner.judge import judge

SUM = Operation(
    role=REDUCTION, tensor="gradients/w", operation="all_reduce", dtype="bfloat16", axes=("tensor",), place="mine.py:7"
)
ADDITION = Operation(role=GRADIENTS, tensor="gradients/w", operation="add", dtype="bfloat16")
ROOT = Operation(role=STATISTICS, tensor="", operation="rsqrt", dtype="bfloat16", place="mine.py:9")


def narrow(*operations: Operation, dtype: str = "bfloat16", declared: str | None = None, **recipe: object) -> CaseRun:
    """A conforming exhibit of some dtype, in whose program these operations were found."""
    made = case_run(arithmetic=operations, declarations=Declarations(reduction_dtype=declared))
    laid = contract()
    return replace(
        made,
        case=replace(made.case, dtype=dtype),
        contract=replace(laid, recipe=replace(laid.recipe, **recipe)),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("operation", "sentence", "cause", "axis"),
    [
        (
            SUM,
            "gradients/w is summed over 'tensor' in bfloat16 (all_reduce at mine.py:7); "
            "the policy sums gradients in float32.",
            "gradients reduced in bfloat16",
            "tensor",
        ),
        (ADDITION, "gradients/w is added up or kept in bfloat16", "gradients added up or kept in bfloat16", None),
        (ROOT, "a statistic is computed in bfloat16 (rsqrt at mine.py:9)", "statistics computed in bfloat16", None),
    ],
)
def test_a_narrow_program_fails_whatever_its_values(operation: Operation, sentence: str, cause: str, axis: str) -> None:
    given = narrow(operation, accumulation=2)
    (result,) = judge(given, [Numerics()])
    assert result.verdict == "fail"
    assert sentence in result.detail
    assert (result.diagnosis[0].cause, result.diagnosis[0].axis) == (cause, axis)


@pytest.mark.parametrize(
    "given",
    [
        narrow(),
        narrow(SUM, dtype="float32", precision=Precision(reduction="bfloat16")),
        narrow(SUM, precision=Precision(gradients="bfloat16")),
        narrow(SUM, declared="bfloat16"),
        narrow(ADDITION),  # one slice: there is nothing to add up
        narrow(replace(ADDITION, operation="convert_element_type"), declared="bfloat16"),
    ],
)
def test_what_the_policy_allows_or_the_implementation_declares_passes(given: CaseRun) -> None:
    assert Numerics().judge(given).verdict == "pass"


def test_functions_without_a_policy_are_not_held() -> None:
    given = narrow(SUM, ROOT)
    assert Numerics().judge(replace(given, contract=replace(given.contract, held=False))).verdict == "pass"


def test_a_program_that_was_not_traced_is_said() -> None:
    given = narrow()
    result = Numerics().judge(replace(given, evidence=replace(given.evidence, unwatched="it reads a file")))
    assert result.verdict == "pass"
    assert "not held to the policy: the step was not watched, because it reads a file." in result.not_held


def test_a_step_whose_data_flow_was_lost_is_said() -> None:
    given = narrow()
    evidence = replace(given.evidence, arithmetic=None, unseen={"arithmetic": "a tensor has no memory of its own"})
    assert Numerics().judge(replace(given, evidence=evidence)).not_held.endswith("a tensor has no memory of its own.")
