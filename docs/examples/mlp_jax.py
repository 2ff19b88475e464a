"""Somebody's own tensor-parallel feed-forward block in JAX, held to the contract `tensor/mlp`."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from conformance import Declarations, Implementation

SPECS = {
    "feedforward.up.weight": PartitionSpec(None, "tensor"),
    "feedforward.up.bias": PartitionSpec("tensor"),
    "feedforward.down.weight": PartitionSpec("tensor", None),
    "feedforward.down.bias": PartitionSpec(),
}


class TensorParallelMLP(Implementation):
    framework = "jax"

    def place(self, parameters, mesh):
        self.device_mesh, master = mesh, "float64" if self.dtype == "float64" else "float32"
        values = {name: self.put(value.astype(master), SPECS[name]) for name, value in parameters.items()}
        self.program = jax.jit(self.train)
        return {"parameters": values, "momentum": jax.tree.map(jnp.zeros_like, values), "count": 0}

    def put(self, value, spec):
        return jax.device_put(value, NamedSharding(self.device_mesh, spec))

    def step(self, state, batch):
        return self.program(state, {key: self.put(value, PartitionSpec("data")) for key, value in batch.items()})

    def collect(self, state):
        found = {f"parameters/{name}": value for name, value in state["parameters"].items()}
        found |= {f"optimizer/momentum/{name}": value for name, value in state["momentum"].items()}
        return found | {"optimizer/count": state["count"]}

    def train(self, state, batch):
        differentiated = jax.value_and_grad(self.loss, argnums=(0, 1), has_aux=True)
        (loss, y), (gradients, g_inputs) = differentiated(state["parameters"], batch["inputs"], batch)
        recipe, norm = self.contract.recipe, jnp.sqrt(sum(jnp.sum(g * g) for g in gradients.values()))
        clip = jnp.minimum(1, recipe.clip_norm / norm)  # infinity, and so 1, where nothing is valid
        momentum, parameters = {}, {}
        for name, p in state["parameters"].items():
            decayed = clip * gradients[name] + recipe.weight_decay * p
            momentum[name] = recipe.momentum * state["momentum"][name] + decayed
            parameters[name] = p - recipe.learning_rate * momentum[name]
        tokens = jnp.sum(batch["mask"])
        observations = {"outputs/y": y, "metrics/tokens": tokens, "loss": loss, "metrics/grad_norm": norm}
        observations |= {f"gradients/{name}": g for name, g in gradients.items()} | {"input_gradients/inputs": g_inputs}
        return {"parameters": parameters, "momentum": momentum, "count": state["count"] + 1}, observations

    def loss(self, parameters, inputs, batch):
        p = {name: value.astype(self.dtype) for name, value in parameters.items()}
        block = jax.shard_map(
            feed_forward,
            mesh=self.device_mesh,
            in_specs=(PartitionSpec("data"), SPECS),
            out_specs=PartitionSpec("data"),
        )
        y = block(inputs.astype(self.dtype), p)
        error = (y.astype(parameters["feedforward.up.bias"].dtype) - batch["targets"]) * batch["mask"][..., None]
        return 0.5 * jnp.sum(error**2) / (jnp.maximum(jnp.sum(batch["mask"]), 1) * y.shape[-1]), y

    def declare(self):
        return Declarations(layout={name: placements(spec) for name, spec in SPECS.items()})


def feed_forward(x, p):
    """What one device computes: rows of the batch, columns of `up`, rows of `down`; parts are summed."""
    hidden = jax.nn.gelu(x @ p["feedforward.up.weight"] + p["feedforward.up.bias"])
    return jax.lax.psum(hidden @ p["feedforward.down.weight"], "tensor") + p["feedforward.down.bias"]


def placements(spec):
    return {axis: f"S({dim})" for dim, axis in enumerate(spec) if axis is not None}
