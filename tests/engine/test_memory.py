"""The check `memory` by hand: what it says of bytes beyond the plan, and what it lets pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conformance.checks import CHECKS
from conformance.contract.contract import Precision, Recipe
from conformance.contract.implementation import Declarations
from conformance.contract.mesh import Mesh
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Block, Copy, Observed, StateBytes
from conformance.evidence.held import shares
from conformance.records.results import CheckResult
from tests.engine import specimen
from tests.engine.specimen import case_run

WHOLE = 6 * 8 * 8  # bytes of the weight in float64
ALL = dict.fromkeys(range(8), 100)


def _judged(made: CaseRun) -> CheckResult:
    return next(check for check in CHECKS if check.name == "memory").judge(made)


def _with(made: CaseRun, name: str, observed: Observed, step: int = 0) -> CaseRun:
    steps = list(made.evidence.steps)
    steps[step] = steps[step] | {name: observed}
    return replace(made, evidence=replace(made.evidence, steps=tuple(steps)))


def _whole(value: np.ndarray) -> Observed:
    """On every rank."""
    block = Block(ranks=tuple(range(8)), index=tuple(slice(0, n) for n in value.shape), value=value)
    stored = dict.fromkeys(range(8), value.nbytes)
    return Observed(shape=value.shape, dtype=str(value.dtype), blocks=(block,), stored_bytes=stored)


def _whole_gradient() -> CaseRun:
    return _with(case_run(), "gradients/w", _whole(specimen.reference().oracle[0]["gradients/w"]))


def test_a_replicated_gradient_is_named_with_its_axis_and_bytes() -> None:
    result = _judged(_whole_gradient())
    assert result.detail == (
        "'gradients/w' is whole on every rank of tensor: 4 x 384 B, where the placement of its parameter gives each "
        "96 B."
    )
    assert (result.first, result.diagnosis[0].axis) == ("step 1: gradients/w", "tensor")
    assert result.worst is not None
    assert (result.worst.error, result.worst.bound) == (WHOLE, WHOLE / 4)


def test_what_is_divided_over_one_of_two_axes_is_no_whole() -> None:
    """It is declared over both."""
    made = case_run()
    layout = {**specimen.LAYOUT, "w": {"tensor": "S(1)", "data": "S(0)"}}
    result = _judged(replace(made, evidence=replace(made.evidence, declarations=Declarations(layout=layout))))
    assert "is not divided over data: each rank holds 96 B, where its placement gives each 48 B." in result.detail


@pytest.mark.parametrize(
    ("layout", "verdict"),
    [({**specimen.LAYOUT, "gradients/w": {}}, "pass"), (None, "pass"), (specimen.LAYOUT, "fail")],
    ids=["declared whole", "not declared", "declared divided"],
)
def test_only_what_is_declared_is_held(layout: dict | None, verdict: str) -> None:
    made = _whole_gradient()
    result = _judged(replace(made, evidence=replace(made.evidence, declarations=Declarations(layout=layout))))
    assert result.verdict == verdict
    assert ("'gradients/w' takes 48 elements on a device" in result.not_held) == (layout is None)


def test_shares_are_chunks_of_one_size_and_nothing_elsewhere() -> None:
    """7 columns over 4 ranks: 2 each, the last chunk padded; the second rank of data owns nothing."""
    tensor = Observed(shape=(6, 7), dtype="float64", blocks=())
    assert shares(tensor, {"tensor": "S(1)", "data": "O(0)"}, specimen.MESH) == {
        rank: 12 if rank < 4 else 0 for rank in range(8)
    }
    assert shares(tensor, {"tensor": "S(1)"}, Mesh.parse("tensor=3")) == dict.fromkeys(range(3), 18)


def test_what_grows_fails_though_nothing_is_declared() -> None:
    made = _with(case_run(declarations=Declarations()), "parameters/w", _whole(np.zeros((6, 8))), step=1)
    result = _judged(made)
    assert result.detail == "'parameters/w' takes 384 B on rank 0 after the last step; it was placed in 96 B."


def test_a_wider_dtype_than_the_recipe_says() -> None:
    made = case_run()
    recipe = Recipe(precision=Precision(gradients="bfloat16"))
    made = replace(made, case=replace(made.case, dtype="float32"), contract=replace(made.contract, recipe=recipe))
    step = {name: value for name, value in made.evidence.steps[0].items() if name.startswith("gradients/")}
    narrow = {name: _as(value, "float32") for name, value in step.items()}
    made = replace(made, evidence=replace(made.evidence, initial={}, steps=(narrow,)))
    assert "is kept in float32, 48 B on rank 0, where the recipe keeps it in bfloat16: 24 B." in _judged(made).detail
    half = {name: _as(value, "bfloat16") for name, value in step.items()}
    assert _judged(replace(made, evidence=replace(made.evidence, steps=(half,)))).verdict == "pass"


def _as(observed: Observed, dtype: str) -> Observed:
    each = {"float32": 2, "bfloat16": 4}[dtype]
    stored = {rank: size // each for rank, size in observed.stored_bytes.items()}
    return replace(observed, dtype=dtype, stored_bytes=stored)


@pytest.mark.parametrize(
    ("state", "donates", "sentence"),
    [
        (StateBytes(held=ALL, before=ALL, reused=ALL), True, ""),
        (StateBytes(held=ALL, before=ALL, reused={}), False, ""),
        (StateBytes(held=ALL, before=ALL, reused=ALL | {3: 60}), True, "40 B of 100 B on rank 3 stay beside"),
        (
            StateBytes(held=ALL, before=ALL, reused={}, copies=(Copy(path="['a']", parameter="w", bytes={2: 9}),)),
            False,
            "The state holds the bits of 'w' more often than it hands them over, at ['a']: 9 B too much on rank 2.",
        ),
    ],
    ids=["donated", "not asked", "half donated", "kept twice"],
)
def test_the_state_as_a_whole(state: StateBytes, donates: bool, sentence: str) -> None:
    made = case_run(state=state, declarations=Declarations(layout=specimen.LAYOUT, donates=donates))
    result = _judged(made)
    assert (result.verdict == "fail") == bool(sentence)
    assert sentence in result.detail


def test_figures_are_bytes_per_device_and_as_planned() -> None:
    batch = {"inputs": specimen.sharded("outputs/y", np.zeros((16, 8)))}
    layout = {**specimen.LAYOUT, "batch/inputs": {"data": "S(0)"}}
    state = StateBytes(held=dict(enumerate(range(10, 18))), before={}, reused={})
    made = case_run(batch=batch, state=state, declarations=Declarations(layout=layout))
    known = {figure.kind: (figure.most, figure.rank, figure.least, figure.planned) for figure in _judged(made).memory}
    each = WHOLE // 4 + 8 * 8  # the weight over tensor, the bias whole
    assert known == {
        "gradients": (each, 0, each, each),
        "parameters": (each, 0, each, each),
        "optimizer/momentum": (each, 0, each, each),
        "batch": (512, 0, 512, 512),
        "state": (17, 7, 10, None),
    }


def test_functions_of_somebody_promise_nothing() -> None:
    made = case_run()
    check = next(check for check in CHECKS if check.name == "memory")
    assert not check.applies(replace(made, contract=replace(made.contract, held=False)))
