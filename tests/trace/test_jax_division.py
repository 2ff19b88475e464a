"""Whether a mesh axis divides the arithmetic of a JAX program, whoever divides it: the program or the partitioner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from conformance.contract.mesh import Mesh
from conformance.evidence.evidence import Division
from conformance.trace.jax_hlo import spanned_axes
from conformance.trace.jax_trace import Program

MESH = Mesh.parse("data=2,tensor=4")
WHOLE = P()
X = np.random.default_rng(0).normal(size=(8, 16))


def _mesh() -> jax.sharding.Mesh:
    return jax.sharding.Mesh(np.array(jax.devices()[:8]).reshape(2, 4), MESH.axes)


def _mapped(function: Callable[[Any], Any], spec: P = WHOLE) -> Callable[[Any], Any]:
    return jax.shard_map(function, mesh=_mesh(), in_specs=spec, out_specs=WHOLE, check_vma=False)


def _everything_everywhere(x: Any) -> Any:
    return lax.pmean(jnp.sum(jnp.tanh(x) ** 2), ("data", "tensor"))


def _masked_pipeline(x: Any) -> Any:
    """Every rank does all stages; the last one's loss is taken."""
    loss = jnp.sum(jnp.tanh(jnp.tanh(x) @ x.T))
    return lax.psum(jnp.where(lax.axis_index("tensor") == 3, loss, 0.0), "tensor")


def _data_parallel_sums(x: Any) -> Any:
    return lax.psum(jnp.sum(jnp.tanh(x) ** 2), "data")


def _own_columns(x: Any) -> Any:
    """Every rank is given everything and takes its own columns."""
    mine = lax.dynamic_slice_in_dim(x, 4 * lax.axis_index("tensor"), 4, 1)
    return lax.psum(jnp.sum(jnp.tanh(mine)), "tensor")


def _stages(x: Any) -> Any:
    """Every rank takes another branch."""
    branches = [lambda x, n=n: jnp.sum(jnp.tanh(x) ** n) for n in range(4)]
    return lax.psum(lax.switch(lax.axis_index("tensor"), branches, x), "tensor")


def _ring(x: Any) -> Any:
    """Blocks go round; what is carried varies only from the second round on."""

    def step(carry: Any, _: Any) -> Any:
        total, block = carry
        return (total + jnp.sum(jnp.tanh(block)), lax.ppermute(block, "data", [(0, 1), (1, 0)])), None

    (total, _), _ = lax.scan(step, (jnp.zeros(()), x), None, length=2)
    return lax.psum(total, "data") / 2


def _constrained(x: Any) -> Any:
    return jnp.sum(jnp.tanh(lax.with_sharding_constraint(x, NamedSharding(_mesh(), P("data")))) ** 2)


def _alone(x: Any) -> Any:
    return jnp.sum(jnp.tanh(x) ** 2)


PROGRAMS = [
    ("everything everywhere", _mapped(_everything_everywhere), ()),
    ("data-parallel sums", _mapped(_data_parallel_sums, P("data")), ("data",)),
    ("its own columns", _mapped(_own_columns), ("tensor",)),
    ("branches by rank", _mapped(_stages), ("tensor",)),
    ("a ring", _mapped(_ring, P("data")), ("data",)),
    ("a constraint", jax.jit(_constrained), ("data",)),
    ("one device", jax.jit(_alone), ()),
]


def _divisions(loss: Callable[[Any], Any], state: Any = None) -> dict[str, Division]:
    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        value, gradient = jax.value_and_grad(loss)(batch["x"])
        return state, {"loss": value, "gradient": gradient}

    return dict(Program(step, state or {}, {"x": X}, MESH).divisions(step, state or {}, {"x": X}))


@pytest.mark.parametrize(("loss", "axes"), [row[1:] for row in PROGRAMS], ids=[row[0] for row in PROGRAMS])
def test_an_axis_divides_what_varies_along_it(loss: Callable[[Any], Any], axes: tuple[str, ...]) -> None:
    divisions = _divisions(loss)
    divided = {
        axis
        for axis, division in divisions.items()
        if division.own_products or division.own > 0.02 * (division.own + division.alike)
    }
    assert set(divisions) == {"data", "tensor"}
    assert divided == set(axes)


def test_all_stages_on_every_rank_are_computed_alike_but_for_what_is_masked() -> None:
    division = _divisions(_mapped(_masked_pipeline))["tensor"]
    assert division.own_products
    assert division.alike > 0.25 * (division.alike + division.own)


def test_a_sharded_state_divides_what_the_partitioner_makes_of_it() -> None:
    state = {"w": jax.device_put(X, NamedSharding(_mesh(), P(None, "tensor")))}
    divisions = _divisions(jax.jit(_alone), state)
    assert (divisions["tensor"].alike, divisions["data"].own) == (0, 0)


def _placed_first(x: Any) -> Any:
    return jnp.sum(jnp.tanh(jax.device_put(x, NamedSharding(_mesh(), P("data")))) ** 2)


@pytest.mark.parametrize(
    ("loss", "alone"), [(jax.jit(_alone), True), (_alone, True), (_placed_first, False), (_mapped(_own_columns), False)]
)
def test_what_is_computed_before_anything_is_placed_one_device_computes(
    loss: Callable[[Any], Any], alone: bool
) -> None:
    assert {division.alone for division in _divisions(loss).values()} == {alone}


@pytest.mark.parametrize(
    ("groups", "axes"),
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}", {"tensor"}),
        ("replica_groups={{0,4},{1,5},{2,6},{3,7}}", {"data"}),
        ("replica_groups=[2,4]<=[8]", {"tensor"}),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", {"data"}),
        ("source_target_pairs={{0,1},{1,2},{2,3},{3,0}}", {"tensor"}),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", {"tensor"}),
        ("replica_groups={{0,1,2,3,8},{9}}", {"tensor"}),
        ("replica_groups={}", {"data", "tensor"}),
        ("add(x, y)", set()),
    ],
)
def test_the_groups_of_a_compiled_collective_name_its_axes(groups: str, axes: set[str]) -> None:
    assert spanned_axes(f"%r = f64[] all-reduce(%x), {groups}, to_apply=%sum", MESH) == axes
