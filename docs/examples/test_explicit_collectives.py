"""A trainer that writes its own collectives with `shard_map`, held to one device and to what it says it sends."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import conformance
from conformance import Declarations, Traffic

rng = np.random.default_rng(0)
ADAMW = partial(optax.adamw, 1e-2, eps=1e-3, weight_decay=0.1)
PARAMETERS = {"layers": [{"up": rng.normal(size=(6, 8)), "down": rng.normal(size=(8, 6))} for _ in range(2)]}
SPECS = {"layers": [{"up": P(None, "tensor"), "down": P("tensor", None)} for _ in range(2)]}


def loss_of(parameters, batch, summed=lambda x: x):
    y = batch["x"]
    for layer in parameters["layers"]:
        y = y + summed(jnp.tanh(y @ layer["up"]) @ layer["down"])
    return jnp.mean((y - batch["target"]) ** 2), {"y": y}


def local(parameters, batch):
    """What one device computes; the gradients of its own shards are already those of the whole."""
    summed = partial(jax.lax.psum, axis_name="tensor")
    return jax.value_and_grad(partial(loss_of, summed=summed), has_aux=True)(parameters, batch)


class Trainer:
    def __init__(self, parameters, mesh):
        shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), SPECS)
        self.model, self.tx = jax.device_put(parameters, shardings), ADAMW()
        self.optimizer = self.tx.init(self.model)
        self.local = jax.shard_map(local, mesh=mesh, in_specs=(SPECS, P()), out_specs=((P(), P()), SPECS))
        self.program = jax.jit(self.train)

    def step(self, batch):
        self.model, self.optimizer, seen = self.program(self.model, self.optimizer, batch)
        return seen

    def train(self, parameters, slots, batch):
        (loss, outputs), gradients = self.local(parameters, batch)
        updates, slots = self.tx.update(gradients, slots, parameters)
        seen = {"loss": loss, "outputs": outputs, "gradients": gradients}
        return optax.apply_updates(parameters, updates), slots, seen


def declared(mesh, dtype):
    """Each layer sums its outputs forward; backward the second one sums the gradient of its inputs."""
    size = 10 * 6 * np.dtype(dtype).itemsize
    forward = Traffic(kind="all_reduce", axes=("tensor",), phase="forward", calls=2, bytes=2 * size)
    backward = Traffic(kind="all_reduce", axes=("tensor",), phase="backward", calls=1, bytes=size)
    return Declarations(traffic=(forward, backward))


def test_explicit_collectives():
    judgement = conformance.check(
        reference=loss_of,
        candidate=Trainer,
        parameters=PARAMETERS,
        batch={"x": rng.normal(size=(10, 6)), "target": rng.normal(size=(10, 6))},
        optimizer=ADAMW,
        declare=declared,
        mesh="tensor=4",
    )
    assert judgement.passed, str(judgement)
