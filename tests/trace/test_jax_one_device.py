"""One device in place of a mesh: rank by rank the values of the mesh, whatever is changed; hollow runs are refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import program
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from conformance.cases.case import Case, Mutation
from conformance.contract.implementation import Unsupported
from conformance.contract.mesh import Mesh
from conformance.trace.jax_spread import SpreadLayout, spread_out, whole
from conformance.trace.jax_trace import Program
from conformance.workers.jax_single import OneDeviceStep

MESH = Mesh.parse("data=2,tensor=4@shuffled")
P = PartitionSpec


def on_one_device(step: Any, mutation: Mutation | None = None, mesh: Mesh = MESH) -> OneDeviceStep:
    case = Case(contract="tensor/mlp", implementation="jax", mesh=mesh, dtype="float64", devices="single")
    return OneDeviceStep(step, case, program.jax_mesh(mesh), jax.devices()[0], mutation)


def copies(tree: Any) -> list[np.ndarray]:
    """Every device's copy of every leaf."""
    shards = [leaf.addressable_shards for leaf in jax.tree.leaves(tree)]
    return [np.asarray(shard.data) for leaf in shards for shard in sorted(leaf, key=lambda shard: shard.device.id)]


def assert_same(single: Any, mesh: Any) -> None:
    pairs = list(zip(copies(single), copies(mesh), strict=True))
    assert pairs
    for left, right in pairs:
        np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def built() -> Any:
    step, state, batch = program.build(MESH)
    placed = NamedSharding(program.jax_mesh(MESH), P("tensor"))
    return Program(step, state, batch, MESH), step, state | {"w": jax.device_put(state["w"], placed)}, batch


OPERATORS = ("drop", "local", "repeat", "sum_to_mean", "sum_to_max", "shifted_permutation", "reversed_permutation",
             "rolled", "low_precision", "rank_off_by_one", "stale_operand", "wrong_axis")  # fmt: skip


@pytest.mark.parametrize("operator", [None, *OPERATORS])
def test_every_rank_has_what_it_has_on_the_mesh_mutants_too(built: Any, operator: str | None) -> None:
    traced, step, state, batch = built
    site = next((site.number for site in traced.sites() if operator in site.operators), None)
    mutation = None if operator is None else Mutation(operator=operator, site=site)
    assert_same(on_one_device(step, mutation)(state, batch), traced.mutated(mutation)(state, batch))


def test_a_mutant_moves_the_result(built: Any) -> None:
    traced, step, state, batch = built
    right = copies(on_one_device(step)(state, batch))
    for site in [site for site in traced.sites() if "drop" in site.operators][:3]:
        wrong = copies(on_one_device(step, Mutation(operator="drop", site=site.number))(state, batch))
        assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(right, wrong, strict=True))


def mapped(body: Any, ins: Any, outs: Any, **more: Any) -> Any:
    return jax.shard_map(body, mesh=program.jax_mesh(MESH), in_specs=ins, out_specs=outs, check_vma=False, **more)


def step_of(function: Any) -> Any:
    return jax.jit(lambda state, batch: (state, {"y": function(batch["x"])}))


def number(x: Any) -> Any:
    return x + lax.axis_index(("data", "tensor"))


def inner(x: Any) -> Any:
    return lax.psum(jnp.sin(x), "data") * lax.axis_index("tensor")


def looped(x: Any) -> Any:
    body = mapped(lambda x: lax.ppermute(x * 1.5, "tensor", [(0, 1), (1, 3)]), P("tensor"), P("tensor"))
    return lax.fori_loop(0, 3, lambda i, x: jnp.cos(body(x)) + i, x)


def branched(x: Any) -> Any:
    index = lax.axis_index("data")
    return lax.cond(index == 0, lambda x: lax.psum(x, "tensor"), lambda x: x * 2 + lax.pmax(x, "tensor"), x)


PROGRAMS = {
    "copies that differ go on to differ": lambda x: jnp.tanh(mapped(number, P(), P())(x)) * 3,
    "copies meet another shard_map": lambda x: mapped(jnp.sin, P(), P())(mapped(number, P(), P())(x)),
    "blocks meet an operation on the whole": lambda x: jnp.cumsum(mapped(inner, P("data"), P("tensor"))(x)),
    "blocks divided in two dims": lambda x: (mapped(number, P(("data", "tensor")), P(("data", "tensor")))(x) ** 2).T,
    "a loop around a shard_map": looped,
    "a branch by rank": mapped(branched, P("data"), P(("data", "tensor"))),
    "one shard_map inside another": mapped(
        lambda x: jax.shard_map(inner_tensor, in_specs=P("tensor"), out_specs=P("tensor"), check_vma=False)(x) * 2,
        P("data"), P("data"), axis_names={"data"},
    ),
}  # fmt: skip


def inner_tensor(x: Any) -> Any:
    return lax.all_gather(x, "tensor", axis=0, tiled=True).sum() + x


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_stands_outside_a_shard_map(name: str) -> None:
    step, batch = step_of(PROGRAMS[name]), {"x": np.random.default_rng(0).normal(size=16)}
    single, mesh = on_one_device(step)({}, batch)[1]["y"], step({}, batch)[1]["y"]
    np.testing.assert_allclose(np.asarray(single), np.asarray(mesh), rtol=1e-12)
    if name.startswith("copies"):
        assert_same([single], [mesh])
        assert len({copy.tobytes() for copy in copies([single])}) == MESH.devices


@pytest.mark.parametrize(
    ("function", "axes"),
    [(jnp.sin, "'data' and 'tensor'"),
     (mapped(jnp.sin, P("data"), P("data"), axis_names={"data"}), "'tensor'")],
)  # fmt: skip
def test_what_nobody_divides_by_hand_is_refused(function: Any, axes: str) -> None:
    with pytest.raises(Unsupported, match=f"No shard_map of this program is manual over {axes}:"):
        on_one_device(step_of(function))({}, {"x": np.ones(16)})


def test_a_step_that_looks_at_values_is_refused() -> None:
    def step(state: Any, batch: Any) -> Any:
        return state, {"y": batch["x"] if batch["x"].sum() > 0 else -batch["x"]}

    with pytest.raises(Unsupported, match="cannot be traced as a whole"):
        on_one_device(step)({}, {"x": jnp.ones(16)})


@given(st.permutations(["data", "tensor", "none"]), st.booleans())
def test_blocks_make_the_whole_again(order: list[str], together: bool) -> None:
    x = np.arange(8 * 16 * 24).reshape(8, 16, 24)
    entries = [None if axis == "none" else axis for axis in order]
    spec = P(tuple(entry for entry in entries if entry), None) if together else P(*entries)
    spread = spread_out(x, SpreadLayout.of(spec, 3, (("data", 2), ("tensor", 4))))
    assert spread.shape == x.shape
    assert spread.blocks.shape[:2] == (2, 4)
    assert (np.asarray(whole(spread)) == x).all()
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:8]).reshape(2, 4), ("data", "tensor"))
    placed = jax.device_put(x, NamedSharding(mesh, spec))
    on = {shard.device: np.asarray(shard.data) for shard in placed.addressable_shards}
    for where, device in np.ndenumerate(mesh.devices):
        assert (np.asarray(spread.blocks[where]) == on[device]).all()
