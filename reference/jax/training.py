"""The single-device training step in JAX: the truth that sharded programs are measured against."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from reference import parameters as canonical
from reference.batches import slices
from reference.jax import optimizers
from reference.jax.optimizers import total
from reference.jax.transformer import Forward, Tensors, build
from reference.precision import policy

State = dict[str, Any]


class Trainer:
    """Place parameters, train step by step, collect: `contract` gives model, shapes and recipe (duck-typed).

    The step is compiled once per Trainer and batch shape; parameters and batches are its arguments.
    Raises RuntimeError for float64 where JAX was started without it.
    """

    def __init__(self, contract: Any, dtype: str) -> None:
        self.recipe, self.shapes = contract.recipe, dict(contract.shapes)
        self.policy = policy(dtype, contract.recipe.precision)
        if self.policy.master == "float64" and not jax.config.read("jax_enable_x64"):
            raise RuntimeError("The reference needs float64, but JAX runs without it: set JAX_ENABLE_X64=1 first.")
        model = nnx.eval_shape(lambda: build(contract.model, self.policy.statistics))
        self._graph, self._blank = nnx.split(model)
        self._compiled = jax.jit(self._step)

    def place(self, parameters: Mapping[str, np.ndarray]) -> State:
        """Canonical parameters -> state before the first step. Raises ValueError for parameters of another model."""
        canonical.check(self.shapes, parameters)
        placed = {name: jnp.asarray(parameters[name], self.policy.master) for name in self.shapes}
        return {
            "parameters": placed,
            "optimizer": optimizers.slots(placed, self.recipe),
            "count": jnp.zeros((), dtype=jnp.int32),
        }

    def step(self, state: State, batch: Mapping[str, np.ndarray]) -> tuple[State, dict[str, jax.Array]]:
        """One training step on the whole batch -> (new state, observations in data-flow order)."""
        new_state, observations = self._compiled(state, dict(batch))
        return new_state, dict(observations)

    def collect(self, state: State) -> dict[str, jax.Array]:
        """State -> parameters/<name>, optimizer/<slot>/<name>, optimizer/count."""
        found = {f"parameters/{name}": state["parameters"][name] for name in self.shapes}
        for slot in optimizers.SLOTS[self.recipe.optimizer]:
            found |= {f"optimizer/{slot}/{name}": state["optimizer"][slot][name] for name in self.shapes}
        return found | {"optimizer/count": state["count"]}

    def _step(self, state: State, batch: Tensors) -> tuple[State, OrderedDict[str, jax.Array]]:
        """An OrderedDict, since a dict would leave `jax.jit` sorted by name."""
        parameters, count = state["parameters"], state["count"] + 1
        observations, gradients = self._accumulate(parameters, batch)
        norm = optimizers.global_norm(gradients)
        clipped = optimizers.clip(gradients, norm, self.recipe.clip_norm)
        moved, slots = optimizers.update(parameters, clipped, state["optimizer"], count, self.recipe)
        for name in reversed(self.shapes):
            observations[f"gradients/{name}"] = gradients[name]
        observations["metrics/grad_norm"] = norm
        return {"parameters": moved, "optimizer": slots, "count": count}, OrderedDict(observations)

    def _accumulate(self, parameters: Tensors, batch: Tensors) -> tuple[Tensors, Tensors]:
        """Forward and backward over the slices of a batch: sums over all of them, divided once; observed, gradients."""
        differentiate = jax.grad(self._loss_sum, has_aux=True)
        parts = [differentiate(parameters, part) for part in slices(batch, self.recipe.accumulation)]
        forwards = [forward for _, forward in parts]
        sums = {name: total(forward.sums[name] for forward in forwards) for name in forwards[0].sums}
        weight = jnp.where(sums["weight"] == 0, 1, sums["weight"])  # a batch without a valid element: zero gradients
        observed = {
            name: jnp.concatenate([forward.observed[name] for forward in forwards]) for name in forwards[0].observed
        }
        observed["metrics/tokens"] = sums["tokens"]
        observed |= {f"metrics/{term}": sums[term] / weight for term in ("cross_entropy", "z_loss") if term in sums}
        observed["loss"] = sums["loss"] / weight
        return observed, {name: total(gradients[name] for gradients, _ in parts) / weight for name in parameters}

    def _loss_sum(self, parameters: Tensors, batch: Tensors) -> tuple[jax.Array, Forward]:
        """The model in the compute dtype, differentiated with respect to the master parameters."""
        cast = {name: p.astype(self.policy.compute) for name, p in parameters.items()}
        loaded = nnx.map_state(lambda path, blank: blank.replace(cast[".".join(map(str, path))]), self._blank)
        forward: Forward = nnx.merge(self._graph, loaded)(self._cast(batch))
        return forward.sums["loss"], forward

    def _cast(self, batch: Tensors) -> Tensors:
        """Inputs in the compute dtype; float targets, mask and padding in `statistics`; ids as they are."""
        wanted = {"inputs": self.policy.compute}
        return {
            key: value.astype(wanted.get(key, self.policy.statistics))
            if jnp.issubdtype(value.dtype, jnp.floating)
            else value
            for key, value in batch.items()
        }
