"""Each check passes a conforming exhibit and catches the fault that it exists for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from conformance.cases.case import Dtype
from conformance.checks import CHECKS, Check
from conformance.contract.implementation import Declarations
from conformance.contract.mesh import Mesh
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import ExtraRun
from conformance.evidence.tolerance import EPSILON
from conformance.records.results import CaseResult
from tests.engine import specimen
from tests.engine.specimen import case_run, with_blocks


def _doubled(tensor: str, step: int = 0) -> CaseRun:
    return case_run(lambda name, number, value: value * 2 if (name, number) == (tensor, step) else value)


def _one_copy_off() -> CaseRun:
    """One rank's copy of the bias gradient differs in its last bit only."""

    def alter(block):
        return replace(block, value=np.nextafter(block.value, 9.0)) if block.ranks == (5,) else block

    return with_blocks(case_run(), 0, "gradients/b", alter)


def _replicated_weight() -> CaseRun:
    """The weight lies whole on every rank, with the right values."""
    made = case_run()
    initial = dict(made.evidence.initial)
    weight = initial["parameters/w"]
    initial["parameters/w"] = replace(weight, stored_bytes={rank: 6 * 8 * 8 for rank in range(8)})
    return replace(made, evidence=replace(made.evidence, initial=initial))


def _without(tensor: str) -> CaseRun:
    made = case_run()
    first = {name: observed for name, observed in made.evidence.steps[0].items() if name != tensor}
    return replace(made, evidence=replace(made.evidence, steps=(first, *made.evidence.steps[1:])))


def _left_out() -> CaseRun:
    """Ranks 1, 2 and 3 hand over no copy of a gradient that is placed on all."""
    made = case_run()
    first = dict(made.evidence.steps[0])
    [block] = first["gradients/b"].blocks
    block = replace(block, ranks=(0, 4, 5, 6, 7))
    first["gradients/b"] = replace(first["gradients/b"], blocks=(block,), owed_by=tuple(range(8)))
    return replace(made, evidence=replace(made.evidence, steps=(first, *made.evidence.steps[1:])))


def _exact(scale: float) -> CaseRun:
    made = case_run(lambda name, number, value: value * scale if name == "outputs/y" else value)
    return replace(made, contract=specimen.contract(exact=True), reference=made.reference)


def _in_float32(made: CaseRun) -> CaseRun:
    case = replace(made.case, dtype="float32")
    start = {name: value.astype(np.float32).astype(float) for name, value in made.reference.initial.items()}
    placed = {f"parameters/{name}": specimen.sharded(f"parameters/{name}", value) for name, value in start.items()}
    return replace(made, case=case, evidence=replace(made.evidence, initial=placed))


def _other_traffic() -> CaseRun:
    return case_run(traffic=(replace(specimen.TRAFFIC[0], calls=2, bytes=100),))


def _not_repeated() -> CaseRun:
    other = _doubled("loss").evidence.steps[0]
    return case_run(repeated=other)


def _lawful(value: float) -> CaseRun:
    """An exhibit whose contract names the law of an empty mask, with a run in which everything had this value."""
    made = case_run()
    seen = {n: specimen.sharded(n, np.full(o.shape, value)) for n, o in made.evidence.steps[0].items()}
    trials = (ExtraRun(label="no valid token", mesh=specimen.MESH, observations=seen),)
    lawful = specimen.contract(relations=("masked batch",))
    return replace(made, contract=lawful, evidence=replace(made.evidence, related={"masked batch": trials}))


FAULTS: list[tuple[str, str, Callable[[], CaseRun]]] = [
    ("logic", "a gradient twice too large", lambda: _doubled("gradients/w")),
    ("logic", "a gradient not finite", lambda: case_run(lambda n, s, v: v * np.nan if n == "gradients/b" else v)),
    (
        "logic",
        "one element off by 1e-12",
        lambda: case_run(
            lambda n, s, v: v + 1e-12 * (np.arange(v.size).reshape(v.shape) == 3) if n == "gradients/w" else v
        ),
    ),
    ("numerics", "a gradient twice too large in float32", lambda: _in_float32(_doubled("gradients/w"))),
    (
        "trajectory",
        "an update lost at the second step",
        lambda: case_run(lambda n, s, v: v * 0 if (n, s) == ("updates/w", 1) else v),
    ),
    ("trajectory", "optimizer state twice too large", lambda: _doubled("optimizer/momentum/b", 1)),
    ("replicas", "one rank's copy differs in the last bit", _one_copy_off),
    ("layout", "a weight declared sharded, stored whole", _replicated_weight),
    ("layout", "one rank does the whole product", lambda: case_run(flops={0: 8000} | dict.fromkeys(range(1, 8), 1000))),
    ("census", "a gradient is missing", lambda: _without("gradients/b")),
    ("census", "a rank leaves its copy out", _left_out),
    ("census", "tokens counted twice", lambda: _doubled("metrics/tokens")),
    ("census", "a batch key is not used", lambda: case_run(input_sensitivity={"inputs": True, "mask": False})),
    ("census", "a device holds nothing", lambda: case_run(devices=tuple(range(7)))),
    (
        "census",
        "the placed parameters are others",
        lambda: case_run(
            initial={n: specimen.sharded(n, np.zeros(o.shape)) for n, o in case_run().evidence.initial.items()}
        ),
    ),
    (
        "census",
        "clipping is never active",
        lambda: replace(
            case_run(), contract=specimen.contract(recipe=replace(specimen.contract().recipe, clip_norm=1e6))
        ),
    ),
    ("memory", "a weight declared sharded, stored whole", _replicated_weight),
    ("communication", "fewer collectives than declared", _other_traffic),
    ("determinism", "another loss the second time", _not_repeated),
    ("relations", "a gradient from nothing", lambda: _lawful(1e-300)),
    ("exact", "off by one unit in the last place", lambda: _exact(1 + 2.0**-52)),
]
CLEAN: dict[str, Callable[[], CaseRun]] = {
    "exact": lambda: _exact(1.0),
    "relations": lambda: _lawful(0.0),
    "numerics": lambda: _in_float32(case_run()),
}


def _named(name: str) -> Check:
    return next(check for check in CHECKS if check.name == name)


@pytest.mark.parametrize(("name", "what", "made"), FAULTS, ids=[f"{n}: {w}" for n, w, _ in FAULTS])
def test_a_check_catches_its_fault(name: str, what: str, made: Callable[[], CaseRun]) -> None:
    finding = made()
    assert _named(name).applies(finding)
    result = _named(name).judge(finding)
    assert result.verdict == "fail", what
    assert result.detail.endswith(".")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_check_passes_a_conforming_run(check: Check) -> None:
    clean = CLEAN.get(check.name, case_run)()
    assert check.applies(clean)
    result = check.judge(clean)
    assert (result.verdict, result.detail) == ("pass", "")
    assert result.compared > 0


def test_what_is_missing_is_named_with_what_came_under_names_that_nobody_knows() -> None:
    made = _without("outputs/y")
    first = dict(made.evidence.steps[0])
    first["ouput"] = first["loss"]
    steps = (first, *made.evidence.steps[1:])
    result = _named("census").judge(replace(made, evidence=replace(made.evidence, steps=steps)))
    assert result.detail == ("'outputs/y' is missing from step 1. The reference has no 'ouput', which is handed over.")


@pytest.mark.parametrize("name", ["made/up~hidden=7", "made/up~accumulation"])
def test_of_a_varied_contract_clipping_that_never_acts_is_said_and_not_failed(name: str) -> None:
    recipe = replace(specimen.contract().recipe, clip_norm=1e6)
    varied = replace(case_run(), contract=specimen.contract(recipe=recipe, name=name))
    result = _named("census").judge(varied)
    assert result.verdict == "pass"
    assert result.not_held.endswith("is below the threshold 1e+06: clipping is not tested.")


@pytest.mark.parametrize(("dtype", "wide_enough"), [("float32", True), ("bfloat16", False), ("float16", False)])
def test_exact_applies_in_the_dtypes_that_the_contract_names(dtype: Dtype, wide_enough: bool) -> None:
    run = _exact(1.0)
    narrow = replace(run, case=replace(run.case, dtype=dtype))
    assert _named("exact").applies(narrow) == wide_enough
    named = replace(narrow, contract=specimen.contract(exact=True, exact_dtypes=("float64", dtype)))
    assert _named("exact").applies(named)
    assert not _named("exact").applies(replace(named, contract=specimen.contract(exact_dtypes=(dtype,))))


def test_every_check_has_a_fault() -> None:
    assert {name for name, _, _ in FAULTS} == {check.name for check in CHECKS}


def test_a_check_that_compares_nothing_fails() -> None:
    made = case_run()
    empty = replace(made, evidence=replace(made.evidence, steps=({}, {})))
    assert _named("logic").judge(empty).verdict == "fail"


def test_the_first_divergence_is_named_in_data_flow_order() -> None:
    made = case_run(lambda name, step, value: value * 3 if name.startswith(("gradients/", "loss")) else value)
    result = _named("logic").judge(made)
    assert result.first == "step 1: loss"
    assert result.ranks == tuple(range(8))


def test_a_copy_that_is_left_out_is_named_with_its_ranks() -> None:
    result = _named("census").judge(_left_out())
    assert result.detail == "'gradients/b' is missing on ranks 1, 2 and 3."
    assert (result.first, result.ranks) == ("step 1: gradients/b", (1, 2, 3))
    assert result.diagnosis


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"declarations": Declarations()}, "The implementation does not declare what it communicates."),
        (
            {"traffic": None, "unwatched": "it cannot be traced as a whole (TypeError: no)"},
            "The step was not watched, because it cannot be traced as a whole (TypeError: no).",
        ),
    ],
    ids=["not declared", "not traced"],
)
def test_what_is_not_held_is_said_in_the_verdict(changes: dict, reason: str) -> None:
    checked = _named("communication").judge(case_run(**changes))
    assert (checked.verdict, checked.not_held) == ("unsupported", reason)
    case = CaseResult(case=case_run().case, framework="jax", verdict="pass", checks=(checked,))
    assert case.spoken == "pass, communication not held"
    assert case.not_held == (f"communication not held: {reason}",)
    assert replace(case, checks=()).spoken == "pass"


def test_one_device_has_nothing_to_communicate() -> None:
    alone = case_run(traffic=(), declarations=Declarations())
    alone = replace(alone, case=replace(alone.case, mesh=Mesh.parse("data=1")))
    assert not _named("communication").applies(alone)


def test_a_count_that_was_divided_is_off_by_a_rounding_and_no_more() -> None:
    """A sum over all elements by the number of features is the count of rows but for the last bit."""

    def census(by: float) -> str:
        moved = case_run(lambda name, step, value: value * (1 + by) if name == "metrics/tokens" else value)
        return _named("census").judge(moved).verdict

    assert census(EPSILON["float64"]) == "pass"
    assert census(EPSILON["float32"]) == "fail", "counted in float64"
    assert census(0.01) == "fail"


def test_a_key_that_changes_nothing_on_one_device_either_is_not_owed() -> None:
    unused = case_run(input_sensitivity={"inputs": True, "mask": False})
    checked = _named("census").judge(replace(unused, reference=replace(unused.reference, idle=("mask",))))
    assert checked.verdict == "pass"
    assert checked.detail == "Other values of 'mask' change nothing on one device either."
