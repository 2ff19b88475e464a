"""Narrow sums of gradients and narrow statistics, read from a traced JAX step; activations may be narrow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import program
import pytest
from jax import lax

from conformance.contract.mesh import Mesh
from conformance.evidence.arithmetic import GRADIENTS, REDUCTION, STATISTICS
from conformance.trace.jax_trace import Program

P = program.P
MESH = Mesh.parse("data=2,tensor=2")
SLICES = 2


def sum_wide(g: Any) -> Any:
    return lax.psum(g, "data")


def sum_narrow(g: Any) -> Any:
    return lax.psum(g.astype(jnp.bfloat16), "data").astype(g.dtype)


def scatter_narrow(g: Any) -> Any:
    part = lax.psum_scatter(g.astype(jnp.bfloat16), "data", tiled=True)
    return lax.all_gather(part, "data", tiled=True).astype(g.dtype)


def sum_by_hand(g: Any) -> Any:
    """One step round a ring of two."""
    return (g.astype(jnp.bfloat16) + lax.ppermute(g.astype(jnp.bfloat16), "data", [(0, 1), (1, 0)])).astype(g.dtype)


def add_wide(total: Any, g: Any) -> Any:
    return total + g


def add_narrow(total: Any, g: Any) -> Any:
    return total + g.astype(total.dtype)


def keep_narrow(total: Any, g: Any) -> Any:
    return lax.reduce_precision(total + g, 8, 7)


def norm_wide(x: Any) -> Any:
    y = x.astype(jnp.float32)
    return (y * lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + 1e-5)).astype(x.dtype)


def norm_narrow(x: Any) -> Any:
    return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + jnp.bfloat16(1e-5))


def softmax_wide(x: Any) -> Any:
    return jax.nn.softmax(x.astype(jnp.float32)).astype(x.dtype)


def operations(
    reduce: Callable = sum_wide,
    add: Callable = add_wide,
    total: Any = jnp.float32,
    norm: Callable = norm_wide,
    softmax: Callable = softmax_wide,
) -> set[tuple[str, str, str, tuple[str, ...]]]:
    """(role, tensor, operation, axes) of the narrow arithmetic in a step of two slices, products in bfloat16.

    The hidden features are divided over `tensor`, so that activations are summed in bfloat16, forward and backward.
    """
    devices = program.jax_mesh(MESH)

    def loss(w: Any, x: Any) -> Any:
        w = jax.tree.map(lambda value: value.astype(jnp.bfloat16), w)
        h = jax.nn.silu(norm(x.astype(jnp.bfloat16)) @ w["up"])
        y = softmax(program.reduce_from_tensor(h @ w["down"])) + w["bias"]
        return jnp.sum(y.astype(jnp.float32) ** 2)

    def local(w: Any, x: Any) -> Any:
        def add_slice(carry: Any, part: Any) -> Any:
            value, g = jax.value_and_grad(loss)(w, part)
            return jax.tree.map(add, carry, g), value

        start = jax.tree.map(lambda value: jnp.zeros(value.shape, total), w)
        g, losses = lax.scan(add_slice, start, x.reshape(SLICES, -1, x.shape[-1]))
        g = {name: (reduce if name == "down" else sum_wide)(value.astype(jnp.float32)) for name, value in g.items()}
        return g, lax.psum(losses.sum(), "data")

    specs = {"up": P(None, "tensor"), "down": P("tensor"), "bias": P()}

    @jax.jit
    def step(state: Any, batch: Any) -> Any:
        mapped = jax.shard_map(
            local, mesh=devices, in_specs=(specs, P("data")), out_specs=(specs, P()), check_vma=False
        )
        g, value = mapped(state, batch["x"])
        return state, {"loss": value} | {f"gradients/{name}": g[name] for name in g}

    rng = np.random.default_rng(0)
    state = {"up": rng.normal(size=(4, 8)), "down": rng.normal(size=(8, 6)), "bias": rng.normal(size=6)}
    state = {name: value.astype(np.float32) for name, value in state.items()}
    traced = Program(step, state, {"x": rng.normal(size=(8, 4)).astype(np.float32)}, MESH)
    narrow = traced.arithmetic()
    assert all(operation.dtype == "bfloat16" and "test_arithmetic.py:" in operation.place for operation in narrow)
    return {(operation.role, operation.tensor, operation.operation, operation.axes) for operation in narrow}


def test_activations_may_be_summed_in_the_dtype_of_computation() -> None:
    assert operations() == set()


@pytest.mark.parametrize(
    ("reduce", "operation"),
    [(sum_narrow, "all_reduce"), (scatter_narrow, "reduce_scatter"), (sum_by_hand, "add")],
)
def test_one_gradient_summed_narrowly_over_devices(reduce: Callable, operation: str) -> None:
    seen = operations(reduce=reduce)
    assert (REDUCTION, "gradients/down", operation, ("data",)) in seen
    assert {tensor for _, tensor, _, _ in seen} == {"gradients/down"}


@pytest.mark.parametrize("how", [{"add": add_narrow, "total": jnp.bfloat16}, {"add": keep_narrow}])
def test_slices_added_up_narrowly(how: dict[str, Any]) -> None:
    seen = operations(**how)
    assert {(role, tensor) for role, tensor, _, _ in seen} == {
        (GRADIENTS, f"gradients/{name}") for name in ("up", "down", "bias")
    }


@pytest.mark.parametrize("part", [{"norm": norm_narrow}, {"softmax": jax.nn.softmax}])
def test_narrow_statistics(part: dict[str, Any]) -> None:
    seen = operations(**part)
    assert seen
    assert {role for role, *_ in seen} == {STATISTICS}
