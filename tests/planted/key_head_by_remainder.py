"""Grouped-query attention with sharded query heads. Keys and values are small: every device computes all of them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from conformance import Declarations, Implementation

SHARDED = {
    "attention.query.weight": PartitionSpec(None, "tensor"),
    "attention.query.bias": PartitionSpec("tensor"),
    "attention.output.weight": PartitionSpec("tensor", None),
}


class Program(Implementation):
    framework = "jax"

    def place(self, parameters, mesh):
        self.jax_mesh = mesh
        self.wide = "float64" if self.dtype == "float64" else "float32"
        self.specs = {name: SHARDED.get(name, PartitionSpec()) for name in parameters}
        self.row_spec = PartitionSpec("data") if "data" in mesh.axis_names else PartitionSpec()
        self.compiled = jax.jit(self.update)
        values = {name: self.to_devices(p.astype(self.wide), self.specs[name]) for name, p in parameters.items()}
        return values, {name: jnp.zeros_like(p) for name, p in values.items()}, 0

    def to_devices(self, array, spec):
        return jax.device_put(array, NamedSharding(self.jax_mesh, spec))

    def step(self, state, batch):
        return self.compiled(state, {key: self.to_devices(value, self.row_spec) for key, value in batch.items()})

    def collect(self, state):
        parameters, momentum, count = state
        return (
            {f"parameters/{name}": p for name, p in parameters.items()}
            | {f"optimizer/momentum/{name}": m for name, m in momentum.items()}
            | {"optimizer/count": count}
        )

    def declare(self):
        return Declarations(
            layout={
                name: {axis: f"S({dim})" for dim, axis in enumerate(SHARDED.get(name, ())) if axis}
                for name in self.contract.shapes
            }
        )

    def update(self, state, batch):
        parameters, momentum, count = state
        run = jax.value_and_grad(self.objective, argnums=(0, 1), has_aux=True)
        (loss, y), (gradients, slopes) = run(parameters, batch["inputs"], batch)
        recipe = self.contract.recipe
        norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in gradients.values()))
        factor = jnp.minimum(1, recipe.clip_norm / norm)
        moved, kept = {}, {}
        for name, p in parameters.items():
            kept[name] = recipe.momentum * momentum[name] + (factor * gradients[name] + recipe.weight_decay * p)
            moved[name] = p - recipe.learning_rate * kept[name]
        observed = {f"gradients/{name}": g for name, g in gradients.items()}
        observed |= {"loss": loss, "outputs/y": y, "input_gradients/inputs": slopes}
        observed |= {"metrics/grad_norm": norm, "metrics/tokens": jnp.sum(batch["mask"])}
        return (moved, kept, count + 1), observed

    def objective(self, parameters, inputs, batch):
        attend = jax.shard_map(
            self.attention,
            mesh=self.jax_mesh,
            in_specs=(self.row_spec, self.row_spec, self.specs),
            out_specs=self.row_spec,
        )
        narrow = {name: p.astype(self.dtype) for name, p in parameters.items()}
        y = attend(inputs.astype(self.dtype), batch["attention_mask"], narrow)
        error = (y.astype(self.wide) - batch["targets"]) * batch["mask"][..., None]
        return 0.5 * jnp.sum(error**2) / (jnp.maximum(jnp.sum(batch["mask"]), 1) * y.shape[-1]), y

    def attention(self, x, attention_mask, p):
        """On one device: its query heads, and the key head that they share."""
        model = self.contract.model
        p = {name.removeprefix("attention."): value for name, value in p.items()}
        heads = model.num_heads // self.mesh.size("tensor")
        q = (x @ p["query.weight"] + p["query.bias"]).reshape(*x.shape[:2], heads, model.head_size)
        k = (x @ p["key.weight"] + p["key.bias"]).reshape(*x.shape[:2], model.num_kv_heads, model.head_size)
        v = (x @ p["value.weight"] + p["value.bias"]).reshape(*x.shape[:2], model.num_kv_heads, model.head_size)
        q, k = self.rms(q, p["query_norm.scale"]), self.rms(k, p["key_norm.scale"])
        q, k = self.rotary(q), self.rotary(k)
        k, v = self.for_heads(k, heads), self.for_heads(v, heads)
        mixed = self.softmax_attention(q, k, v, attention_mask)
        return jax.lax.psum(mixed.reshape(*x.shape[:2], -1) @ p["output.weight"], "tensor") + p["output.bias"]

    def for_heads(self, k, heads):
        """Keys (or values) for each query head of this device."""
        model = self.contract.model
        group = model.num_heads // model.num_kv_heads
        if heads >= group:
            here = heads // group
            k = jax.lax.dynamic_slice_in_dim(k, jax.lax.axis_index("tensor") * here, here, axis=2)
            return jnp.repeat(k, group, axis=2)
        shared = jax.lax.axis_index("tensor") % model.num_kv_heads
        return jnp.repeat(jax.lax.dynamic_slice_in_dim(k, shared, 1, axis=2), heads, axis=2)

    def rms(self, x, scale):
        y = x.astype(self.wide)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.contract.model.norm_epsilon)
        return (y * scale).astype(x.dtype)

    def rotary(self, x):
        length, half = x.shape[1], x.shape[3] // 2
        frequency = self.contract.model.rotary_base ** (-np.arange(half) / half)
        angle = np.arange(length)[:, None, None] * frequency
        cos, sin = jnp.asarray(np.cos(angle), x.dtype), jnp.asarray(np.sin(angle), x.dtype)
        first, second = x[..., :half], x[..., half:]
        return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def softmax_attention(self, q, k, v, attention_mask):
        length = q.shape[1]
        seen = (attention_mask > 0)[:, None, :] & np.tril(np.ones((length, length), bool))
        seen = seen | np.eye(length, dtype=bool)
        scores = jnp.einsum("bshe,bthe->bhst", q, k).astype(self.wide) / math.sqrt(q.shape[3])
        weights = jax.nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf), axis=-1)
        return jnp.einsum("bhst,bthe->bshe", weights.astype(v.dtype), v)
