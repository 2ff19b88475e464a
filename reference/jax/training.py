"""The single-device training step in JAX: the reference that sharded programs are compared with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from reference import parameters as canonical
from reference.architecture import mixtures, real_inputs
from reference.batches import parts, slices
from reference.jax import optimizers
from reference.jax.forward import Forward
from reference.jax.layers import Tensors
from reference.jax.optimizers import total
from reference.jax.rounding import rounded, rounded_total
from reference.jax.transformer import build
from reference.precision import policy

State = dict[str, Any]

_TERMS = ("cross_entropy", "z_loss", "balance_loss", "router_z_loss")  # terms of the loss, named as their coefficients


class Trainer:
    """Places parameters, trains and collects the state: `contract` gives model, shapes and recipe (duck-typed).

    The step is compiled once per Trainer and batch shape; parameters and batches are its arguments.
    Raises RuntimeError for float64 where JAX was started without it, and ValueError for a loss of experts under a
    declared reduction.
    """

    def __init__(self, contract: Any, dtype: str) -> None:
        self.recipe, self.shapes = contract.recipe, dict(contract.shapes)
        self.policy, self.model = policy(dtype, contract.recipe.precision), contract.model
        self._mixtures = mixtures(self.model)
        if self._mixtures and self.policy.reduction and (self.model.balance_loss or self.model.router_z_loss):
            raise ValueError("A loss of experts is that of a whole slice: leave reduction=None, which cuts no slice.")
        self._sloped = real_inputs(self.model)  # keys of a batch whose gradients are observed
        if self.policy.statistics == "float64" and not jax.config.read("jax_enable_x64"):
            raise RuntimeError("The reference needs float64, but JAX runs without it: set JAX_ENABLE_X64=1 first.")
        model = nnx.eval_shape(lambda: build(self.model, self.policy.statistics))
        self._graph, self._blank = nnx.split(model)
        self._compiled = jax.jit(self._step)

    def place(self, parameters: Mapping[str, np.ndarray]) -> State:
        """Canonical parameters -> state before the first step. Raises ValueError for parameters of another model."""
        canonical.check(self.shapes, parameters)
        wide = {name: jnp.asarray(parameters[name], self.policy.optimizer) for name in self.shapes}
        return self._state(wide, optimizers.slots(wide, self.recipe), jnp.zeros((), dtype=jnp.int32))

    def step(self, state: State, batch: Mapping[str, np.ndarray]) -> tuple[State, dict[str, jax.Array]]:
        """One training step on the whole batch -> (new state, observations in data-flow order)."""
        new_state, observations = self._compiled(state, dict(batch))
        return new_state, dict(observations)

    def collect(self, state: State) -> dict[str, jax.Array]:
        """State -> parameters/<name>, optimizer/<slot>/<name> (`master` too, where there is one), optimizer/count."""
        collected = {f"parameters/{name}": state["parameters"][name] for name in self.shapes}
        for slot in optimizers.SLOTS[self.recipe.optimizer]:
            collected |= {f"optimizer/{slot}/{name}": state["optimizer"][slot][name] for name in self.shapes}
        if state["master"]:
            collected |= {f"optimizer/master/{name}": state["master"][name] for name in self.shapes}
        return collected | {"optimizer/count": state["count"]}

    def _step(self, state: State, batch: Tensors) -> tuple[State, OrderedDict[str, jax.Array]]:
        """An OrderedDict, since a dict would leave `jax.jit` sorted by name."""
        forward, backward = self._accumulate(state["parameters"], batch)
        gradients = {name: backward[f"gradients/{name}"] for name in self.shapes}
        new_state, norm = self._updated(state, gradients, forward)
        return new_state, OrderedDict(forward | backward | {"metrics/grad_norm": norm})

    def _state(self, wide: Tensors, slots: dict[str, Tensors], count: jax.Array) -> State:
        """The parameters between steps, rounded from the master copy where there is one."""
        master = {name: rounded(p, self.policy.master) for name, p in wide.items()} if self.policy.master else {}
        stored = {name: rounded(p, self.policy.parameters) for name, p in (master or wide).items()}
        return {"parameters": stored, "master": master, "optimizer": slots, "count": count}

    def _updated(self, state: State, gradients: Tensors, observations: Tensors) -> tuple[State, jax.Array]:
        """The state after one update, which is done in the optimizer's dtype; and the norm of the gradients."""
        dtype, count = self.policy.optimizer, state["count"] + 1
        wide = {name: rounded(p, dtype) for name, p in (state["master"] or state["parameters"]).items()}
        gradients = {name: rounded(g, dtype) for name, g in gradients.items()}
        norm = optimizers.global_norm(gradients)
        clipped = optimizers.clip(gradients, norm, self.recipe.clip_norm)
        moved, slots = optimizers.update(wide, clipped, state["optimizer"], count, self.recipe)
        return self._state(moved | self._levelled(moved, observations), slots, count), norm

    def _levelled(self, moved: Tensors, observations: Tensors) -> Tensors:
        """The router biases after a step: bias += rate * sign(mean load - load), the load being that of all slices.

        The sign is that of sum of loads - experts * load, whole numbers all: where the load is even, it is zero.
        Source: DeepSeek-V3, section 2.1.2.
        """
        biases = {}
        for name in self._mixtures if self.model.router_bias else ():
            load_E, bias_E = observations[f"metrics/load/{name}"], moved[f"{name}.router.bias"]
            sign_E = jnp.sign(jnp.sum(load_E) - self.model.experts * load_E)
            biases[f"{name}.router.bias"] = bias_E + self.model.bias_update_rate * sign_E.astype(self.policy.optimizer)
        return biases

    def _accumulate(self, parameters: Tensors, batch: Tensors) -> tuple[Tensors, Tensors]:
        """(forward, backward): what is observed in either, over the slices of a batch; sums of all are divided once.

        Backward: gradients/<parameter> from the last parameter to the first, then input_gradients/<key>.
        """
        loaded = {name: p.astype(self.policy.compute) for name, p in parameters.items()}
        results = [self._slice(loaded, part) for part in slices(batch, self.recipe.accumulation, self.recipe.shares)]
        forwards = [forward for pieces, _ in results for forward in pieces]
        sums = {name: total(forward.sums[name] for forward in forwards) for name in forwards[0].sums}
        weight = jnp.where(sums["weight"] == 0, 1, sums["weight"])  # a batch without a valid element: zero gradients
        observed = _observed(forwards, sums, weight, self._mixtures)
        means = {
            name: self._mean([gradients[name] for _, gradients in results], weight) for name in reversed(self.shapes)
        }
        backward = {f"gradients/{name}": g for name, g in means.items()}
        for key in self._sloped:
            slope = jnp.concatenate([forward.slopes[key] for forward in forwards])
            backward[f"input_gradients/{key}"] = self._mean([slope], weight)
        return observed, backward

    def _slice(self, loaded: Tensors, batch: Tensors) -> tuple[list[Forward], Tensors]:
        """Gradients of a slice, summed. With a declared reduction it is cut as if for devices, to round as they do."""
        pieces = parts(batch, self.recipe.precision.reduced_over) if self.policy.reduction else [batch]
        results = [self._differentiate(loaded, piece) for piece in pieces]
        dtype = self.policy.reduction or self.policy.gradients
        sums = {name: rounded_total((gradients[name] for _, gradients in results), dtype) for name in loaded}
        gradients = {name: rounded(g, self.policy.gradients) for name, g in sums.items()}
        return [forward for forward, _ in results], gradients

    def _mean(self, terms: list[jax.Array], weight: jax.Array) -> jax.Array:
        """The gradient as it is kept and reported: the sum over slices by the weight of the whole batch."""
        summed = rounded_total(terms, self.policy.gradients)
        return rounded(rounded(summed, self.policy.optimizer) / weight, self.policy.gradients)

    def _differentiate(self, loaded: Tensors, batch: Tensors) -> tuple[Forward, Tensors]:
        """The model on parameters in the compute dtype; the gradients of its loss sum are in that dtype too."""
        batch = self._cast(batch)

        def loss_sum(loaded: Tensors, read: Tensors) -> tuple[jax.Array, Forward]:
            state = nnx.map_state(lambda path, blank: blank.replace(loaded[".".join(map(str, path))]), self._blank)
            forward: Forward = nnx.merge(self._graph, state)(batch | read)
            return forward.sums["loss"], forward

        read = {key: batch[key] for key in self._sloped}
        (gradients, slopes), forward = jax.grad(loss_sum, argnums=(0, 1), has_aux=True)(loaded, read)
        return forward._replace(slopes=slopes), gradients

    def _cast(self, batch: Tensors) -> Tensors:
        """Inputs in the compute dtype; float targets, mask and attention mask in `statistics`; ids as they are."""
        wanted = {"inputs": self.policy.compute}
        return {
            key: value.astype(wanted.get(key, self.policy.statistics))
            if jnp.issubdtype(value.dtype, jnp.floating)
            else value
            for key, value in batch.items()
        }


def _observed(forwards: list[Forward], sums: Tensors, weight: jax.Array, mixtures: tuple[str, ...]) -> Tensors:
    """Per-row observations in data-flow order, then metrics and the loss."""
    names = forwards[0].observed
    observed = {name: jnp.concatenate([forward.observed[name] for forward in forwards]) for name in names}
    observed["metrics/tokens"] = sums["tokens"]
    observed |= {f"metrics/load/{name}": sums[f"load/{name}"] for name in mixtures}
    observed |= {f"metrics/{term}": sums[term] / weight for term in _TERMS if term in sums}
    observed["loss"] = sums["loss"] / weight
    return observed
