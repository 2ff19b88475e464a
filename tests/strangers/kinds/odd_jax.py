"""Outputs that are trees, and programs that are hollow; run as a script, it prints verdicts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from answering import answer_for
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

rng = np.random.default_rng(0)
PARAMETERS = {"up": rng.normal(size=(6, 8)), "down": rng.normal(size=(8, 4))}
BATCH = {"x": rng.normal(size=(8, 6))}


def reference(parameters, batch):
    hidden = jnp.tanh(batch["x"] @ parameters["up"])
    y = hidden @ parameters["down"]
    return jnp.mean(y**2), {"y": y, "block": {"hidden": hidden, "halves": [y[:, :2], y[:, 2:]]}}


DIFFERENTIATED = jax.jit(jax.value_and_grad(reference, has_aux=True))


def seen(parameters, batch):
    (loss, outputs), gradients = DIFFERENTIATED(parameters, batch)
    return {"loss": loss, "outputs": outputs, "gradients": gradients}


def rows(parameters, batch, mesh):
    return seen(parameters, jax.device_put(batch, NamedSharding(mesh, P("data"))))


def one_device(parameters, batch, mesh):
    """A planted fault: what is placed on the mesh is the results."""
    returned = jax.device_put(seen(parameters, batch), NamedSharding(mesh, P()))
    return returned | {"outputs": jax.device_put(returned["outputs"], NamedSharding(mesh, P("data")))}


def one_device_in_shards(parameters, batch, mesh):
    """The same, with gradients that are shards at last."""
    returned = one_device(parameters, batch, mesh)
    return returned | {"gradients": jax.device_put(returned["gradients"], NamedSharding(mesh, P("data")))}


def still():
    return optax.sgd(0.0)


class Still:
    def __init__(self, parameters, mesh):
        self.mesh, self.model = mesh, jax.device_put(parameters, NamedSharding(mesh, P()))
        self.optimizer = still().init(self.model)

    def step(self, batch):
        return rows(self.model, batch, self.mesh)


KINDS = {
    "nested outputs": {"candidate": rows},
    "nested outputs in bfloat16": {"candidate": rows, "dtype": "bfloat16"},
    "one device": {"candidate": one_device},
    "one device in shards": {"candidate": one_device_in_shards},
    "learns nothing": {"candidate": Still, "optimizer": still},
}


if __name__ == "__main__":
    answer_for(KINDS, reference=reference, parameters=PARAMETERS, batch=BATCH, mesh="data=2")
