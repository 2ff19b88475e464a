"""An embedding whose padded table is divided inside the step, and one that every device looks up whole; JAX."""

import jax
import jax.numpy as jnp
import numpy as np
from answering import answer_for
from jax.sharding import PartitionSpec as P

rng = np.random.default_rng(8)
PARAMETERS = {"embedding": rng.normal(size=(10, 6)), "w": rng.normal(size=(6, 6)) / 2}
BATCH = {"ids": rng.permutation(np.arange(24) % 10).reshape(4, 6), "target": rng.normal(size=(4, 6, 6))}


def reference(parameters, batch):
    y = jnp.tanh(parameters["embedding"][batch["ids"]] @ parameters["w"])
    return jnp.mean((y - batch["target"]) ** 2), {"y": y}


def in_parts(parameters, batch, mesh):
    """Ten rows, padded to twelve: three for each device, all else on every one."""

    def local(p, batch):
        ids = batch["ids"] - 3 * jax.lax.axis_index("tensor")
        here = (ids >= 0) & (ids < 3)
        rows = p["embedding"][jnp.where(here, ids, 0)] * here[..., None]
        y = jnp.tanh(jax.lax.psum(rows, "tensor") @ p["w"])
        return jnp.mean((y - batch["target"]) ** 2), y

    specs = {"embedding": P("tensor"), "w": P()}
    sharded = jax.shard_map(local, mesh=mesh, in_specs=(specs, P()), out_specs=(P(), P()))

    def padded(p):
        return sharded(p | {"embedding": jnp.pad(p["embedding"], ((0, 2), (0, 0)))}, batch)

    (loss, y), gradients = jax.jit(jax.value_and_grad(padded, has_aux=True))(parameters)
    return {"loss": loss, "outputs/y": y} | {f"gradients/{name}": value for name, value in gradients.items()}


def whole(parameters, batch, mesh):
    def local(p, batch):
        y = jnp.tanh(p["embedding"][batch["ids"]] @ p["w"])
        return jnp.mean((y - batch["target"]) ** 2), y

    run = jax.shard_map(local, mesh=mesh, in_specs=(P(), P()), out_specs=(P(), P()))
    (loss, y), gradients = jax.jit(jax.value_and_grad(run, has_aux=True))(parameters, batch)
    return {"loss": loss, "outputs/y": y} | {f"gradients/{name}": value for name, value in gradients.items()}


KINDS = {"table in parts": {"candidate": in_parts}, "table whole": {"candidate": whole}}


if __name__ == "__main__":
    answer_for(KINDS, reference=reference, parameters=PARAMETERS, batch=BATCH, mesh="tensor=4")
