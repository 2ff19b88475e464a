"""Flax NNX: partitioning metadata on parameters, `nnx.get_partition_spec`."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

MESH = "data=2,tensor=4"


class Perceptron(nnx.Module):
    def __init__(self, up, down):
        self.up = nnx.Param(up, out_sharding=(None, "tensor"), eager_sharding=False)
        self.down = nnx.Param(down, out_sharding=("tensor", None), eager_sharding=False)

    def __call__(self, x):
        return jnp.tanh(x @ self.up[...]) @ self.down[...]


def candidate(parameters, batch, mesh):
    graph, state = nnx.split(Perceptron(parameters["up"], parameters["down"]))
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), nnx.get_partition_spec(state))
    state, x = jax.device_put(state, shardings), jax.device_put(batch["x"], NamedSharding(mesh, PartitionSpec("data")))

    def loss(state, x):
        y = nnx.merge(graph, state)(x)
        return jnp.mean(y**2), y

    step = jax.jit(jax.value_and_grad(loss, has_aux=True), out_shardings=((None, None), shardings))
    (value, y), gradients = step(state, x)
    return {
        "loss": value,
        "outputs/y": y,
        "gradients/up": gradients["up"][...],
        "gradients/down": gradients["down"][...],
    }
