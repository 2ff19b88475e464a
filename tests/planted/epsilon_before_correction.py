"""ZeRO stage 1 with AdamW written out on the shards of a device."""

import jax.numpy as jnp

from suites.data.jax_manual import zero1


class Program(zero1.LanguageModel):
    def update(self, state, gradients, factor):
        recipe, count = self.contract.recipe, state["count"] + 1
        beta1, beta2 = recipe.betas
        steps = count.astype(self.master)
        step_size = recipe.learning_rate * jnp.sqrt(1 - beta2**steps) / (1 - beta1**steps)
        slots, parameters = {"first_moment": {}, "second_moment": {}}, {}
        for name, p in state["parameters"].items():
            shard, g = self.own_shard(name, p), factor * self.own_shard(name, gradients[name])
            first = beta1 * state["optimizer"]["first_moment"][name] + (1 - beta1) * g
            second = beta2 * state["optimizer"]["second_moment"][name] + (1 - beta2) * g * g
            shard = shard - recipe.learning_rate * self.weight_decay(name) * shard
            shard = shard - step_size * first / (jnp.sqrt(second) + recipe.epsilon)
            slots["first_moment"][name], slots["second_moment"][name] = first, second
            parameters[name] = self.gather_updated(name, shard)
        return {"parameters": parameters, "optimizer": slots, "count": count}
