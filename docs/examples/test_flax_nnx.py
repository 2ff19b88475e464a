"""A trainer with Flax NNX and automatic partitioning, held to one device: three steps, everything compared."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import conformance

ADAMW = partial(optax.adamw, 1e-2, eps=1e-3, weight_decay=0.1)
SHARDED = {"up": P(None, "tensor"), "down": P("tensor", None)}  # kernels; everything else is everywhere


class Block(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.up, self.down = nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 6, rngs=rngs)

    def __call__(self, x):
        return x + self.down(jnp.tanh(self.up(self.norm(x))))


def loss_of(model, batch):
    y = model(batch["x"])
    return jnp.mean((y - batch["target"]) ** 2), {"y": y}


@nnx.jit
def train(model, optimizer, batch):
    (loss, outputs), gradients = nnx.value_and_grad(loss_of, has_aux=True)(model, batch)
    optimizer.update(model, gradients)
    return {"loss": loss, "outputs": outputs, "gradients": gradients}


class Trainer:
    def __init__(self, model, mesh):
        self.rows = NamedSharding(mesh, P("data"))
        everywhere = jax.tree.map(lambda _: NamedSharding(mesh, P()), nnx.state(model))
        for layer, spec in SHARDED.items():
            everywhere[layer]["kernel"].set_value(NamedSharding(mesh, spec))
        nnx.update(model, jax.device_put(nnx.state(model), everywhere))
        self.model, self.optimizer = model, nnx.Optimizer(model, ADAMW(), wrt=nnx.Param)

    def step(self, batch):
        return train(self.model, self.optimizer, jax.device_put(batch, self.rows))


def test_flax_nnx():
    rng = np.random.default_rng(0)
    judgement = conformance.check(
        reference=loss_of,
        candidate=Trainer,
        parameters=Block(nnx.Rngs(0)),
        batch={"x": rng.normal(size=(8, 6)), "target": rng.normal(size=(8, 6))},
        optimizer=ADAMW,
        mesh="data=2,tensor=2",
    )
    assert judgement.passed, str(judgement)
