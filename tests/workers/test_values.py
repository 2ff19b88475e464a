"""The intermediate values of a step: the same line gives on a mesh the parts of what it gives on one device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conformance.cases.case import Mutation
from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.divergence import first_divergence
from conformance.diagnosis.inside.matching import Matcher
from conformance.evidence.intermediates import Intermediates
from conformance.records.results import Cause
from conformance.workers.jobs import ReferenceValuesJob, ValuesJob
from conformance.workers.pool import Workers
from tests.workers.conftest import job, needs

MESH = Mesh.parse("tensor=2")
ONE = Mesh.parse("tensor=1")


def _values(
    workers: Workers, framework: str, program: str, mesh: Mesh = MESH, mutation: Mutation | None = None
) -> Intermediates:
    given = job(framework, program)
    case = replace(given.case, mesh=mesh, mutation=mutation)
    outcome = workers.run(ValuesJob(case=case, framework=framework, target=given.target), 60)
    assert outcome.intermediates is not None, outcome.reason + outcome.stack
    return outcome.intermediates


def test_every_value_of_a_right_program_is_found_on_one_device(workers: Workers, framework: str) -> None:
    wide, twin = _values(workers, framework, "Right"), _values(workers, framework, "Right", ONE)
    matcher = Matcher(twin, MESH)
    products = [value for value in wide.values if value.operation in ("dot_general", "mm")]
    assert products
    assert all(value.values.keys() == {0, 1} for value in products)
    matches = [matcher.match(value) for value in products]
    assert all(match is not None for match in matches)
    assert {match.dims for match in matches if match is not None and not match.partial} == {(("tensor", 0),)}
    assert {match.partial for match in matches if match is not None} == {(), ("tensor",)}, "the gradient of w is a sum"
    assert list(first_divergence(wide, twin, MESH, "gradients/w")) == []


def test_a_program_with_types_of_varying_axes_has_values_on_one_device_too(workers: Workers) -> None:
    needs("jax")
    wide, twin = _values(workers, "jax", "Typed"), _values(workers, "jax", "Typed", ONE)
    assert list(first_divergence(wide, twin, MESH, "gradients/w")) == []


def test_the_turns_of_a_loop_are_kept_one_by_one(workers: Workers) -> None:
    needs("jax")
    wide, twin = _values(workers, "jax", "Scanned"), _values(workers, "jax", "Scanned", ONE)
    turns = [[v for v in program.values if v.operation == "mul" and v.phase == "forward"] for program in (wide, twin)]
    assert 1 < len(turns[0]) == len(turns[1]) / 2, "each rank has half of the rows"
    assert {block.ndim for value in turns[0] for block in value.values.values()} <= {0, 1, 2}
    assert list(first_divergence(wide, twin, MESH, "gradients/w")) == []


def test_what_stands_in_a_branch_is_seen_on_the_ranks_that_take_it(workers: Workers) -> None:
    needs("jax")
    wide = _values(workers, "jax", "Branched")
    sides = [next(v for v in wide.values if v.operation == name and set(v.values) == {rank})
             for name, rank in (("add", 0), ("sub", 1))]  # fmt: skip
    moved = next(value for value in wide.values if value.operation == "all_reduce" and value.sources)
    assert len(moved.sources) == 2
    assert {source for source in moved.sources} & {value.number for value in wide.values if set(value.values) == {0}}
    assert all(side.number < moved.number for side in sides)


def test_messages_are_noted_when_they_are_used(workers: Workers) -> None:
    needs("torch")
    wide = _values(workers, "torch", "Exchanges")
    products = [value for value in wide.values if value.operation == "mm"]
    assert products
    assert not any(value.operation in ("send", "recv") for value in wide.values)
    used = {source for value in wide.values for source in value.sources}
    messages = {value.number for value in wide.values if value.operation == "permute"}
    assert messages
    assert messages <= used


@pytest.mark.parametrize("program", ["Scattered", "ScatteredColumns"])
def test_a_collective_is_made_of_the_parts_that_it_is_handed(workers: Workers, program: str) -> None:
    needs("torch")
    wide, twin = _values(workers, "torch", program), _values(workers, "torch", "Right", ONE)
    values = {value.number: value for value in wide.values}
    [scattered] = [value for value in wide.values if value.operation == "reduce_scatter"]
    assert [values[number].operation for number in scattered.sources] == ["cat"]
    assert list(first_divergence(wide, twin, MESH, "gradients/w")) == []


def test_a_view_in_another_order_is_no_message(workers: Workers) -> None:
    needs("torch")
    operations = [value.operation for value in _values(workers, "torch", "Scattered").values]
    assert "transpose" in operations
    assert "permute" not in operations


def test_the_reference_has_values_too(workers: Workers, framework: str) -> None:
    contract = job(framework, "Right").case.contract
    outcome = workers.run(ReferenceValuesJob(contract=contract, framework=framework, seed=0), 60)
    assert outcome.intermediates is not None
    assert any(value.operation in ("dot_general", "mm") for value in outcome.intermediates.values)


def _first(workers: Workers, framework: str, operator: str) -> Cause:
    """What the values say of a mutation of the sum of gradients, which is the second collective."""
    wide = _values(workers, framework, "Right", mutation=Mutation(operator=operator, site=1))
    return next(iter(first_divergence(wide, _values(workers, framework, "Right", ONE), MESH, "gradients/w")))


@pytest.mark.parametrize(
    ("operator", "words"),
    [
        ("drop", "reduction missing: every rank keeps its own operand"),
        ("repeat", "summed twice"),
        ("sum_to_mean", "a mean where a sum is meant"),
        ("sum_to_max", "the largest operand"),
    ],
)
def test_the_first_wrong_value_says_what_a_collective_did(
    workers: Workers, framework: str, operator: str, words: str
) -> None:
    cause = _first(workers, framework, operator)
    assert words in cause.cause
    assert cause.axis == "tensor"
    assert cause.basis


def test_the_line_of_a_wrong_operation_is_named(workers: Workers, framework: str) -> None:
    wide, twin = _values(workers, framework, "SquaresTheInput"), _values(workers, framework, "Right", ONE)
    cause = next(iter(first_divergence(wide, twin, MESH, "gradients/w")))
    assert cause.place
    assert cause.cause.startswith("parts from what one device has")
    assert f"{framework}_programs.py" in cause.cause


def test_a_value_that_is_nowhere_on_one_device_matches_nothing(workers: Workers, framework: str) -> None:
    twin = _values(workers, framework, "Right", ONE)
    value = next(value for value in twin.values if value.operation in ("dot_general", "mm"))
    noise = {rank: np.random.default_rng(rank).normal(size=(4, 5)) for rank in (0, 1)}
    assert Matcher(twin, MESH).match(replace(value, values=noise)) is None
