"""Somebody's own sharded function in JAX, checked in their own test."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

import conformance

rng = np.random.default_rng(0)
PARAMETERS = {"up": rng.normal(size=(6, 8)), "down": rng.normal(size=(8, 6))}
BATCH = {"x": rng.normal(size=(10, 6))}


def reference(parameters, batch):
    y = jnp.tanh(batch["x"] @ parameters["up"]) @ parameters["down"]
    return jnp.mean(y**2), {"y": y}


def candidate(parameters, batch, mesh):
    specs = {"up": P(None, "tensor"), "down": P("tensor", None)}

    def loss(parameters, x):
        y = jax.lax.psum(jnp.tanh(x @ parameters["up"]) @ parameters["down"], "tensor")
        return jnp.mean(y**2), y

    sharded = jax.shard_map(loss, mesh=mesh, in_specs=(specs, P()), out_specs=(P(), P()))
    (value, y), gradients = jax.value_and_grad(sharded, has_aux=True)(parameters, batch["x"])
    return {"loss": value, "outputs/y": y} | {f"gradients/{name}": g for name, g in gradients.items()}


def test_my_sharded_function():
    judgement = conformance.check(
        reference=reference, candidate=candidate, parameters=PARAMETERS, batch=BATCH, mesh="tensor=4"
    )
    assert judgement.passed, str(judgement)
