"""The traced JAX step: the same bits when nothing is changed, the right counts, and mutants that show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import program
import pytest
from jax import lax

from conformance.cases.case import Mutation
from conformance.contract.implementation import Traffic
from conformance.contract.mesh import Mesh
from conformance.trace import jax_mutants
from conformance.trace.jax_trace import Program
from conformance.trace.operators import OPERATORS, MutationError

MESHES = ("data=2,tensor=4", "data=2,tensor=4@shuffled")


@pytest.fixture(scope="module", params=MESHES)
def built(request: Any) -> Any:
    mesh = Mesh.parse(request.param)
    step, state, batch = program.build(mesh)
    return Program(step, state, batch, mesh), step, state, batch


def copies(tree: Any) -> list[np.ndarray]:
    """Every device's copy of every leaf: a mutant may be visible on some devices only."""
    shards = [leaf.addressable_shards for leaf in jax.tree.leaves(tree)]
    return [np.asarray(shard.data) for leaf in shards for shard in sorted(leaf, key=lambda shard: shard.device.id)]


def same(left: Any, right: Any) -> bool:
    pairs = zip(copies(left), copies(right), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def close(left: Any, right: Any) -> bool:
    """But for rounding in float64: another program around the same operations fuses them otherwise."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(np.allclose(a, b, rtol=1e-12, atol=1e-12, equal_nan=True) for a, b in pairs)


def test_unchanged_program_gives_the_same_bits(built: Any) -> None:
    traced, step, state, batch = built
    assert same(traced.mutated(None)(state, batch), step(state, batch))


def test_sites_are_those_of_the_program_in_order(built: Any) -> None:
    traced = built[0]
    forward = [(site.kind, site.axes) for site in traced.sites() if site.phase == "forward"]
    assert forward == [
        ("axis_index", ("tensor",)),
        ("all_reduce", ("tensor",)),
        ("all_gather", ("data",)),
        ("reduce_scatter", ("data",)),
        ("permute", ("tensor",)),
        ("all_to_all", ("tensor",)),
        ("all_reduce", ("tensor",)),
        ("all_reduce", ("data", "tensor")),
    ]
    assert [site.number for site in traced.sites()] == list(range(len(traced.sites())))


def test_traffic_is_the_theory(built: Any) -> None:
    """float64: h [4, 8] is 256 bytes, gathered 512; the scan runs STEPS times, and once more in recomputation."""
    both, rounds = ("data", "tensor"), program.STEPS
    expected = {
        Traffic(kind="all_reduce", axes=("tensor",), phase="forward", calls=2, bytes=256 + 256, dtype="float64"),
        Traffic(kind="all_gather", axes=("data",), phase="forward", calls=1, bytes=512, dtype="float64"),
        Traffic(kind="reduce_scatter", axes=("data",), phase="forward", calls=1, bytes=512, dtype="float64"),
        Traffic(kind="permute", axes=("tensor",), phase="forward", calls=1, bytes=256, dtype="float64"),
        Traffic(kind="all_to_all", axes=("tensor",), phase="forward", calls=1, bytes=256, dtype="float64"),
        Traffic(
            kind="all_reduce",
            axes=both,
            phase="forward",
            calls=rounds,
            bytes=256 * rounds,
            dtype="float64",
        ),
        Traffic(
            kind="all_reduce",
            axes=both,
            phase="backward",
            calls=2 * rounds,
            bytes=512 * rounds,
            dtype="float64",
        ),
        Traffic(kind="all_to_all", axes=("tensor",), phase="backward", calls=1, bytes=256, dtype="float64"),
        Traffic(kind="permute", axes=("tensor",), phase="backward", calls=1, bytes=256, dtype="float64"),
        Traffic(kind="all_gather", axes=("data",), phase="backward", calls=1, bytes=512, dtype="float64"),
        Traffic(kind="reduce_scatter", axes=("data",), phase="backward", calls=1, bytes=512, dtype="float64"),
        Traffic(kind="all_reduce", axes=("tensor",), phase="backward", calls=1, bytes=256, dtype="float64"),
        Traffic(kind="all_reduce", axes=("data",), phase="update", calls=1, bytes=128, dtype="float64"),
        Traffic(kind="all_reduce", axes=both, phase="update", calls=1, bytes=8, dtype="float64"),
    }
    assert set(built[0].traffic()) == expected


def test_a_program_evaluated_again_has_the_same_traffic(built: Any) -> None:
    traced, _, state, batch = built
    again = Program(traced.mutated(None), state, batch, traced.mesh)
    assert again.traffic() == traced.traffic()
    assert again.sites() == traced.sites()
    assert again.flops() == traced.flops()


def test_flops_are_those_of_one_device(built: Any) -> None:
    """x [4, 2] @ w [2, 8] forward, and x.T @ g for the gradient of w."""
    assert built[0].flops() == dict.fromkeys(range(8), 2 * (2 * 4 * 2 * 8))


@pytest.mark.parametrize("operator", sorted(set(OPERATORS) - {"mean_to_sum"}))
def test_every_mutant_shows_somewhere(operator: str) -> None:
    """Each operator on each collective that it applies to; no collective of JAX is a mean."""
    mesh = Mesh.parse(MESHES[0])
    step, state, batch = program.build(mesh)
    traced = Program(step, state, batch, mesh)
    right = step(state, batch)
    mutations = [Mutation(operator=operator, site=site.number) for site in traced.sites() if operator in site.operators]
    assert mutations
    silent = [str(mutation) for mutation in mutations if close(traced.mutated(mutation)(state, batch), right)]
    assert silent == (["repeat@6"] if operator == "repeat" else []), "only the maximum of a maximum changes nothing"


@pytest.mark.parametrize("mesh", MESHES)
def test_mutants_in_one_program_are_those_that_are_compiled_alone(mesh: str) -> None:
    step, state, batch = program.build(Mesh.parse(mesh))
    together = Program(step, state, batch, Mesh.parse(mesh))
    mutations = [Mutation(operator=name, site=site.number) for site in together.sites() for name in site.operators]
    assert len(mutations) > 20
    for mutation in mutations[::5]:
        alone = Program(step, state, batch, Mesh.parse(mesh))
        together.mutated(mutations[0]), together.mutated(mutations[1])  # from the second on they are in one program
        results = [copies(each.mutated(mutation)(state, batch)) for each in (together, alone)]
        assert close(*results), mutation


def test_a_mutant_of_another_shape_cannot_run_alone_nor_together(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others of the same program still do."""
    right = jax_mutants.perform_mutated

    def cut(call: Any, operator: str, operands: Any, *others: Any) -> list[Any]:
        results = right(call, operator, operands, *others)
        return [result[..., None] for result in results] if operator == "drop" else results

    monkeypatch.setattr(jax_mutants, "perform_mutated", cut)
    _, step, state, batch = built
    traced = Program(step, state, batch, built[0].mesh)
    [drop, *_] = [Mutation(operator="drop", site=site.number) for site in traced.sites() if "drop" in site.operators]
    for _ in ("alone", "together"):
        with pytest.raises(MutationError, match="this mutant cannot run"):
            traced.mutated(drop)(state, batch)
        traced.mutated(replace(drop, operator="repeat"))(state, batch)


def test_mutants_obey_their_law() -> None:
    """On one all-reduce of known values: dropped x, repeated k sum, mean sum/k, maximum, the other axis."""
    mesh = Mesh.parse("data=2,tensor=4")
    devices = program.jax_mesh(mesh)
    everywhere = program.P("data", "tensor")

    def step(state: Any, batch: Any) -> Any:
        body = jax.shard_map(
            lambda x: lax.psum(x, "tensor"), mesh=devices, in_specs=everywhere, out_specs=everywhere, check_vma=False
        )
        return state, {"y": body(batch)}

    x = np.random.default_rng(0).normal(size=(2, 4))
    total = np.repeat(x.sum(1, keepdims=True), 4, 1)
    traced = Program(step, 0, x, mesh)
    expected = {
        "drop": x,
        "repeat": 4 * total,
        "sum_to_mean": total / 4,
        "sum_to_max": np.repeat(x.max(1, keepdims=True), 4, 1),
        "wrong_axis": np.repeat(x.sum(0, keepdims=True), 2, 0),
        "low_precision": np.repeat(np.asarray(jnp.bfloat16(x), float).sum(1, keepdims=True), 4, 1),
    }
    assert set(traced.sites()[0].operators) == set(expected)
    for operator, values in expected.items():
        y = traced.mutated(Mutation(operator=operator, site=0))(0, x)[1]["y"]
        np.testing.assert_allclose(y, values, rtol=1e-14, err_msg=operator)


def test_a_mutation_that_does_not_apply_says_so(built: Any) -> None:
    with pytest.raises(MutationError, match="does not apply to collective 0, an axis_index over tensor"):
        built[0].mutated(Mutation(operator="drop", site=0))
    with pytest.raises(MutationError, match="There is no collective 99"):
        built[0].mutated(Mutation(operator="drop", site=99))


def test_axes_of_size_one_are_not_traffic() -> None:
    mesh = Mesh.parse("data=1,tensor=4")
    devices = jax.sharding.Mesh(np.array(jax.devices()[:4]).reshape(1, 4), mesh.axes)

    def body(x: Any) -> Any:
        return lax.psum(lax.psum(x, "data"), ("data", "tensor"))

    def step(state: Any, batch: Any) -> Any:
        mapped = jax.shard_map(
            body, mesh=devices, in_specs=program.P("tensor"), out_specs=program.P("tensor"), check_vma=False
        )
        return state, {"y": mapped(batch)}

    traced = Program(step, 0, np.ones((4, 3)), mesh)
    assert traced.traffic() == (
        Traffic(kind="all_reduce", axes=("tensor",), phase="forward", calls=1, bytes=24, dtype="float64"),
    )


def test_control_flow_counts_and_gives_the_same_bits() -> None:
    """A while counts its body once; of a cond the branch with most collectives counts; checked casts are no traffic."""
    mesh = Mesh.parse("data=2,tensor=4")
    devices = program.jax_mesh(mesh)

    def body(x: Any) -> Any:
        x = lax.while_loop(lambda s: s[1] < 3, lambda s: (jnp.sin(lax.psum(s[0], "tensor")), s[1] + 1), (x, 0))[0]
        busy = x.sum() > 1e9
        x = lax.cond(busy, lambda x: x, lambda x: lax.psum(lax.psum(x, "data") / 9, "data"), x)
        return jax.nn.relu(x)

    def step(state: Any, batch: Any) -> Any:
        spec = program.P("data", "tensor")
        return state, {"y": jax.shard_map(body, mesh=devices, in_specs=spec, out_specs=spec, check_vma=False)(batch)}

    x = np.random.default_rng(0).normal(size=(4, 8))
    traced = Program(step, 0, x, mesh)
    assert {(t.axes, t.calls) for t in traced.traffic() or ()} == {(("tensor",), 1), (("data",), 2)}
    assert same(traced.mutated(None)(0, x), jax.jit(step)(0, x))


def test_a_program_checked_for_varying_axes_gives_the_same_bits() -> None:
    """Under check_vma=True the sums of gradients over replicated axes are made by the transposition of a cast."""
    mesh = Mesh.parse("data=2,tensor=4")
    devices = program.jax_mesh(mesh)

    def body(w: Any, x: Any) -> Any:
        return jax.value_and_grad(lambda w: lax.psum(jnp.sum(jnp.sin(x @ w)), "data"))(w)

    def step(state: Any, batch: Any) -> Any:
        mapped = jax.shard_map(
            body, mesh=devices, in_specs=(program.P(), program.P("data", None)), out_specs=(program.P(), program.P())
        )
        loss, grad = mapped(state, batch)
        return state - grad, {"loss": loss, "gradients/w": grad}

    rng = np.random.default_rng(0)
    state, batch = rng.normal(size=(3, 5)), rng.normal(size=(4, 3))
    traced = Program(jax.jit(step), state, batch, mesh)
    assert ("backward", "all_reduce") in {(site.phase, site.kind) for site in traced.sites()}
    assert same(traced.mutated(None)(state, batch), jax.jit(step)(state, batch))


def test_the_partitioner_owns_a_program_without_shard_map() -> None:
    traced = Program(lambda state, batch: (state, {"y": batch @ batch}), 0, np.ones((4, 4)), Mesh.parse("tensor=4"))
    assert traced.traffic() is None
    assert traced.flops() is None
    assert traced.sites() == ()
