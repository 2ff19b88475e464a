"""A program that a partitioner made is held to an upper bound, and what goes beyond it is named with its tensor."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from conformance.checks.communication import Communication
from conformance.checks.upper_bound import _some, parameter_of
from conformance.contract.budget import Allowance
from conformance.contract.implementation import Declarations
from conformance.contract.mesh import Mesh
from conformance.evidence.partitioned import Partitioned
from conformance.records.results import CheckResult
from conformance.workers.partitioned import partitioned, text_of
from tests.engine.specimen import case_run

MESH = Mesh.parse("data=2,tensor=4")
ROWS, INNER, OUT = 8, 16, 24


def _spec(*axes: str | None) -> NamedSharding:
    devices = np.array(jax.devices()[: MESH.devices]).reshape(MESH.shape)
    return NamedSharding(jax.sharding.Mesh(devices, MESH.axes, axis_types=(AxisType.Auto,) * 2), PartitionSpec(*axes))


def _made(of_weight: NamedSharding, of_gradient: NamedSharding) -> Partitioned:
    """A linear layer and its gradient: rows over data, columns of the weight over tensor."""

    def step(state: dict, batch: dict) -> tuple[dict, dict]:
        def loss(w: jax.Array) -> jax.Array:
            return jnp.sum(jnp.sin(batch["x"] @ w))

        value, g = jax.value_and_grad(loss)(state["parameters"]["w"])
        return state, {"loss": value, "gradients/w": jax.lax.with_sharding_constraint(g, of_gradient)}

    def array(sharding: NamedSharding, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, "float32", sharding=sharding)

    batch = {"x": array(_spec("data", None), ROWS, INNER)}
    lowered = jax.jit(step).lower({"parameters": {"w": array(of_weight, INNER, OUT)}}, batch)
    return partitioned(lowered, text_of(lowered), MESH)


def _allowance(kind: str, axes: tuple[str, ...], tensor: str, elements: int, calls: int = 1) -> Allowance:
    return Allowance(
        kind=kind, axes=axes, tensor=tensor, dtype="float32", elements=elements, calls=calls, formula="", source=""
    )


BUDGET = (
    _allowance("all_reduce", ("data",), "w", INNER * OUT // 4),
    *(_allowance("all_reduce", axes, "", 1, 2) for axes in (("data",), ("tensor",), ("data", "tensor"))),
)


def _judged(made: Partitioned, budget: tuple[Allowance, ...] | None = BUDGET) -> CheckResult:
    run = case_run(traffic=None, partitioned=made, declarations=Declarations(at_most=budget))
    return Communication().judge(replace(run, case=replace(run.case, mesh=MESH)))


@pytest.fixture(scope="module")
def columns() -> NamedSharding:
    return _spec(None, "tensor")


@pytest.fixture(scope="module")
def right(columns: NamedSharding) -> Partitioned:
    return _made(columns, columns)


def test_a_gradient_that_is_summed_where_it_lies_stays_within(right: Partitioned) -> None:
    judged = _judged(right)
    assert (judged.verdict, judged.not_held) == ("pass", "")
    assert judged.compared >= 2


def test_a_gradient_that_comes_out_whole_is_named(columns: NamedSharding) -> None:
    judged = _judged(_made(columns, _spec(None, None)))
    assert judged.verdict == "fail"
    assert judged.first == "w over tensor"
    assert "wrong axis: " in judged.detail
    assert "'w'" in judged.detail
    assert "whose budget is over data" in judged.detail


def test_a_budget_of_half_the_gradient_is_exceeded_by_the_other_half(right: Partitioned) -> None:
    half = (replace(BUDGET[0], elements=BUDGET[0].elements // 2), *BUDGET[1:])
    judged = _judged(right, half)
    assert (judged.verdict, judged.first) == ("fail", "w over data")
    assert judged.worst is not None
    assert judged.worst.error - judged.worst.bound > 0
    assert judged.detail.startswith("extra: ")


def test_what_the_partitioner_had_to_gather_whole_is_a_finding(right: Partitioned) -> None:
    said = "[SPMD] Involuntary full rematerialization. The compiler cannot go from sharding A to B efficiently"
    judged = _judged(replace(right, rematerialized=(said,)))
    assert judged.verdict == "fail"
    assert judged.detail == f"The partitioner says: {said}"


def test_without_a_budget_it_is_not_held(right: Partitioned) -> None:
    judged = _judged(right, None)
    assert (judged.verdict, judged.not_held) == (
        "unsupported",
        "The implementation does not declare what it communicates.",
    )


def test_a_parameter_its_gradient_and_its_slot_are_of_one_name() -> None:
    names = frozenset({"layers.0.up.weight"})
    for tensor in ("layers.0.up.weight", "gradients/layers.0.up.weight", "optimizer/momentum/layers.0.up.weight"):
        assert parameter_of(tensor, names) == "layers.0.up.weight"
    assert parameter_of("outputs/y", names) == ""


def test_a_layer_of_a_stack_is_the_stack_where_the_budget_names_that() -> None:
    names = frozenset({"layers.0.up.weight", "layers.1.up.weight", "layers.*.up.weight"})
    assert parameter_of("gradients/layers.1.up.weight", names) == "layers.*.up.weight"
    assert parameter_of("gradients/layers.1.up.weight", names - {"layers.*.up.weight"}) == "layers.1.up.weight"


def test_of_many_sets_of_axes_two_are_said() -> None:
    assert _some(("data", "tensor")) == "data or tensor"
    assert _some(("data", "fsdp", "sequence", "tensor")) == "data, fsdp and 2 other sets of axes"
