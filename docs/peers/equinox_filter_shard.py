"""equinox: `eqx.filter_shard` and `eqx.filter_jit`."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

MESH = "data=2,tensor=4"


class Perceptron(eqx.Module):
    up: jax.Array
    down: jax.Array

    def __call__(self, x):
        return jnp.tanh(x @ self.up) @ self.down


def candidate(parameters, batch, mesh):
    specs = Perceptron(up=PartitionSpec(None, "tensor"), down=PartitionSpec("tensor", None))
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
    model = eqx.filter_shard(Perceptron(**parameters), shardings)
    x = eqx.filter_shard(batch["x"], NamedSharding(mesh, PartitionSpec("data")))

    def loss(model, x):
        y = model(x)
        return jnp.mean(y**2), y

    (value, y), gradients = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))(model, x)
    gradients = eqx.filter_shard(gradients, shardings)
    return {"loss": value, "outputs/y": y, "gradients/up": gradients.up, "gradients/down": gradients.down}
