"""A hand-made step that uses every collective, for the tests of the trace."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from conformance.contract.implementation import Reordered
from conformance.contract.mesh import Mesh

P = PartitionSpec
STEPS = 3  # trips of the scan


def jax_mesh(mesh: Mesh) -> jax.sharding.Mesh:
    devices = np.array(jax.devices())[list(mesh.device_order)].reshape(mesh.shape)
    return jax.sharding.Mesh(devices, mesh.axes, axis_types=(AxisType.Auto,) * len(mesh.axes))


@jax.custom_vjp
def reduce_from_tensor(x: Any) -> Any:
    """All-reduce forward, identity backward."""
    return lax.psum(x, "tensor")


reduce_from_tensor.defvjp(lambda x: (lax.psum(x, "tensor"), None), lambda _, g: (g,))


@jax.custom_vjp
def copy_to_tensor(x: Any) -> Any:
    """Identity forward, all-reduce backward."""
    return x


copy_to_tensor.defvjp(lambda x: (x, None), lambda _, g: (lax.psum(g, "tensor"),))


def local_loss(w: Any, x: Any) -> Any:
    """On blocks w [2, 8] (data of tensor=4) and x [4, 2]: every kind of collective, something curved after each."""
    rank = lax.axis_index("tensor").astype(x.dtype)
    h = reduce_from_tensor(jnp.tanh(x @ w))  # [4, 8]
    h = jnp.sin(copy_to_tensor(h) + rank * jnp.arange(8.0))
    h = jnp.tanh(lax.all_gather(h, "data", axis=0, tiled=True) * jnp.arange(1.0, 9.0)[:, None] / 3)  # [8, 8]
    h = jnp.sin(lax.psum_scatter(h, "data", scatter_dimension=0, tiled=True) + jnp.arange(4.0)[:, None])  # [4, 8]
    h = jnp.tanh(lax.ppermute(h, "tensor", [(i, (i + 1) % 4) for i in range(4)]) + rank / 5)
    h = jnp.sin(lax.all_to_all(h, "tensor", 1, 0, tiled=True) + jnp.arange(16.0)[:, None] / 7)  # [16, 2]
    top = lax.pmax(lax.stop_gradient(h), "tensor")
    h = jnp.tanh(h - 0.5 * top + rank / 3)

    @jax.checkpoint
    def layer(h: Any, scale: Any) -> Any:
        return jnp.sin(lax.psum(h * scale, ("data", "tensor")) / 3 + rank), None

    h, _ = lax.scan(layer, h, jnp.arange(1.0, STEPS + 1.0))
    return jnp.sum(h**2)


def build(mesh: Mesh) -> tuple[Any, Any, Any]:
    """(step, state, batch) for a mesh data=2,tensor=4 in any device order."""
    devices = jax_mesh(mesh)

    def local_step(w: Any, x: Any) -> Any:
        loss, grad = jax.value_and_grad(local_loss)(w, x)
        with jax.named_scope("update"):
            grad = lax.psum(grad, "data")
            total = lax.psum(loss, ("data", "tensor"))
        return w - grad / 8, grad, total

    @jax.jit
    def step(state: Any, batch: Any) -> Any:
        sharded = jax.shard_map(
            local_step, mesh=devices, in_specs=(P("tensor"), P("data", "tensor")),
            out_specs=(P("tensor"), P("tensor"), P()), check_vma=False,
        )  # fmt: skip
        w, grad, loss = sharded(state["w"], batch["x"])
        whole = Reordered(value=grad, shape=(8, 8), index_map={0: np.arange(8)})
        return {"w": w, "count": state["count"] + 1}, {"loss": loss, "gradients/w": whole, "rows": 8}

    rng = np.random.default_rng(0)
    state = {"w": rng.normal(size=(8, 8)), "count": 0}
    return step, state, {"x": rng.normal(size=(8, 8))}
