"""A traced step evaluated device by device: the values are those of the mesh, in branches and under mutants too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import program
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from conformance.cases.case import Mutation
from conformance.contract.mesh import Mesh
from conformance.evidence.intermediates import Intermediates
from conformance.trace.arithmetic import Ordinary
from conformance.trace.jax_devices import ApartError, Devices, gathered, scattered
from conformance.trace.jax_trace import Program

MESH = Mesh.parse("data=2,tensor=4")
SPEC = P("data", "tensor")


def on_blocks(function: Callable[[Any], Any]) -> tuple[Any, Any, Any]:
    """(step, state, batch): a function of a block of x, whose results stay blocks."""

    @jax.jit
    def step(state: Any, batch: Any) -> Any:
        mapped = jax.shard_map(
            lambda x: function(x)[None, None], mesh=program.jax_mesh(MESH), in_specs=SPEC, out_specs=SPEC,
            check_vma=False,
        )  # fmt: skip
        return state, {"result": mapped(batch["x"])}

    return step, jnp.zeros(()), {"x": np.random.default_rng(1).normal(size=(8, 16))}


def last(values: Intermediates, shape: tuple[int, ...]) -> dict[int, np.ndarray]:
    """What the last operation made that has this shape on a device."""
    fitting = [value for value in values.values if {x.shape for x in value.values.values()} == {shape}]
    return dict(fitting[-1].values)


def ran(step: Any, state: Any, batch: Any, mutation: Mutation | None, traced: Program) -> dict[int, np.ndarray]:
    """What every device has after the step."""
    result = traced.mutated(mutation)(state, batch)[1]["result"]
    shards = sorted(result.addressable_shards, key=lambda shard: shard.device.id)
    return {rank: np.asarray(shard.data)[0, 0] for rank, shard in enumerate(shards)}


def mutations(traced: Program) -> list[Mutation]:
    return [Mutation(operator=operator, site=site.number) for site in traced.sites() for operator in site.operators]


COLLECTIVES: dict[str, Callable[[Any], Any]] = {
    "sum": lambda x: lax.psum(x, "tensor") + 1,
    "sum over both": lambda x: lax.psum(x, ("data", "tensor")) + 1,
    "largest": lambda x: lax.pmax(x, "data") + 1,
    "smallest": lambda x: lax.pmin(x, "tensor") + 1,
    "gathered": lambda x: lax.all_gather(x, "tensor", axis=1, tiled=True) + 1,
    "gathered over both": lambda x: lax.all_gather(x, ("tensor", "data"), axis=0, tiled=True) + 1,
    "stacked": lambda x: lax.all_gather(x, "data", axis=1) + 1,
    "scattered": lambda x: lax.psum_scatter(x, "tensor", scatter_dimension=1, tiled=True) + 1,
    "scattered, untiled": lambda x: lax.psum_scatter(x, "tensor", scatter_dimension=0) + 1,
    "all to all": lambda x: lax.all_to_all(x, "tensor", 1, 0, tiled=True) + 1,
    "all to all, untiled": lambda x: lax.all_to_all(x, "tensor", 1, 1) + 1,
    "round": lambda x: lax.ppermute(x, "tensor", [(i, (i + 1) % 4) for i in range(4)]) + 1,
    "to the next but for the last": lambda x: lax.ppermute(x, "tensor", [(i, i + 1) for i in range(3)]) + 1,
    "by its number": lambda x: x * (lax.axis_index(("tensor", "data")) + 1),
    "drawn by its number": lambda x: x + jax.random.normal(
        jax.random.fold_in(jax.random.key(3), lax.axis_index("tensor")), x.shape
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COLLECTIVES)
def test_every_collective_is_that_of_the_mesh_under_every_operator(name: str) -> None:
    step, state, batch = on_blocks(COLLECTIVES[name])
    traced = Program(step, state, batch, MESH)
    operators = [
        Mutation(operator=operator, site=site.number) for site in traced.sites() for operator in site.operators
    ]
    assert name.startswith("drawn") or operators
    compared = 0
    for mutation in (None, *operators):
        wanted = ran(step, state, batch, mutation, traced)
        values = last(traced.intermediates(state, batch, mutation), wanted[0].shape)
        assert values.keys() == wanted.keys()
        assert all(np.allclose(values[rank], wanted[rank], rtol=1e-12) for rank in wanted), mutation
        compared += len(wanted)
    assert compared == 8 * (1 + len(operators))


def test_the_whole_program_is_that_of_the_mesh_under_every_operator() -> None:
    """Loops, recomputation and the backward pass included."""
    step, state, batch = program.build(MESH)
    traced = Program(step, state, batch, MESH)
    operators = [
        Mutation(operator=operator, site=site.number) for site in traced.sites() for operator in site.operators
    ]
    assert len(operators) > 20
    for mutation in (None, *operators[::3]):
        seen = traced.mutated(mutation)(state, batch)[1]
        values = traced.intermediates(state, batch, mutation)
        [number] = values.observed["gradients/w"]
        shards = sorted(seen["gradients/w"].value.addressable_shards, key=lambda shard: shard.device.id)
        gradient = next(value for value in values.values if value.number == number)
        for rank, shard in enumerate(shards):
            assert np.allclose(gradient.values[rank], shard.data, rtol=1e-9), (mutation, rank)


def test_what_a_device_makes_in_its_branch_is_seen_on_that_device_alone() -> None:
    def function(x: Any) -> Any:
        return (
            lax.switch(lax.axis_index("tensor") % 2, [lambda x: jnp.sin(x), lambda x: lax.psum(jnp.cos(x), "data")], x)
            * 2
        )

    step, state, batch = on_blocks(function)
    traced = Program(step, state, batch, MESH)
    values = traced.intermediates(state, batch, None)
    ranks = {value.operation: set(value.values) for value in values.values}
    assert ranks["sin"] == {0, 2, 4, 6}
    assert ranks["cos"] == ranks["all_reduce"] == {1, 3, 5, 7}
    product = next(value for value in values.values if value.operation == "mul")
    made_of = {value.operation for value in values.values if value.number in product.sources}
    assert made_of == {"sin", "all_reduce"}
    wanted = ran(step, state, batch, None, traced)
    assert all(np.allclose(product.values[rank], wanted[rank]) for rank in wanted)


def test_devices_that_wait_for_each_other_are_no_values() -> None:
    step, state, batch = on_blocks(
        lambda x: lax.cond(lax.axis_index("tensor") == 0, lambda x: lax.psum(x, "tensor"), lambda x: x, x)
    )
    with pytest.raises(ApartError, match="not all partners along tensor"):
        Program(step, state, batch, MESH).intermediates(state, batch, None)


def test_loops_run_as_often_as_each_device_asks() -> None:
    def function(x: Any) -> Any:
        turns = lax.axis_index("tensor")
        _, grown = lax.while_loop(lambda c: c[0] < turns, lambda c: (c[0] + 1, c[1] * 3), (0, x))
        total, rows = lax.scan(lambda c, row: (c + row, c * row), grown[0] * 0, grown, reverse=True)
        return jnp.concatenate([total[None], rows]) * 1.5

    step, state, batch = on_blocks(function)
    traced = Program(step, state, batch, MESH)
    wanted = ran(step, state, batch, None, traced)
    values = last(traced.intermediates(state, batch, None), wanted[0].shape)
    assert all(np.allclose(values[rank], wanted[rank]) for rank in wanted)


@pytest.mark.parametrize(
    "spec", [P(), P("data"), P(None, ("tensor", "data")), P("tensor", "data"), P(("data", "tensor"))]
)
def test_what_is_scattered_is_gathered_again(spec: Any) -> None:
    axes = {"data": 2, "tensor": 4}
    x = np.arange(3 * 8 * 8.0).reshape(3, 8, 8)
    blocks = scattered(x, spec, axes)
    assert len(blocks) == 24
    assert np.array_equal(gathered(blocks, spec, axes), x)


def test_groups_are_those_of_the_mesh_in_the_order_of_the_axes_named() -> None:
    devices = Devices.outside().divided({"data": 2, "tensor": 4})
    assert devices.groups(("tensor",)).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert devices.groups(("data",)).tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert devices.groups(("tensor", "data")).tolist() == [[0, 4, 1, 5, 2, 6, 3, 7]]
    assert devices.positions(Mesh.parse("tensor=4,data=2")) == {0: 0, 1: 4, 2: 1, 3: 5, 4: 2, 5: 6, 6: 3, 7: 7}


def test_narrow_floats_are_added_up_in_float32() -> None:
    ones = np.full((1, 4096), 1.0, ml_dtypes.bfloat16)
    assert Ordinary().total(ones, [1]).tolist() == [4096.0]
    assert Ordinary().product(ones[:, None], ones[:, :, None]).tolist() == [[[4096.0]]]
    assert Ordinary().running(ones, 1)[0, -1] == 4096.0
