"""Somebody's trainer in JAX: a class that is made with the parameters and a mesh, and takes steps.

A step is traced as a function, so what the trainer keeps is taken out of it before and put back after every step: its
attributes that hold arrays, be they trees, modules or optimizers.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from conformance.cases.functions import Functions
from conformance.contract.contract import Arrays, Contract
from conformance.contract.implementation import Declarations, Implementation
from conformance.inline.calling import attribute, constructed, declared
from conformance.inline.jax_model import Model, cast, is_module, named, parameters_of, slots_of, variables_of
from conformance.inline.observed import named as observed

State = Any


class _Trainers:
    """Makes trainers of one class, has them step, and reads what they have learnt."""

    def __init__(self, contract: Contract, path: str, dtype: str) -> None:
        self.functions: Functions = contract.model
        self.path, self.compute, self.model = path, dtype, Model(self.functions)
        self.dtype = contract.recipe.precision.dtype("parameters", dtype)
        self.trainer: Any = None

    def made(self, parameters: Arrays, mesh: Any) -> State:
        model = self.model.built(cast(parameters, self.dtype), self.model.kept(self.dtype))
        self.trainer = constructed(self.path, model, mesh, jnp.dtype(self.compute))
        return self._taken()

    def step(self, state: State, batch: Arrays) -> tuple[State, dict[str, Any]]:
        trainer = self._given(state)
        seen = observed(trainer.step(cast(batch, self.compute)), named)
        model = getattr(trainer, "model", None)
        if is_module(model):
            seen = {f"buffers/{name}": value for name, value in variables_of(model)[1].items()} | seen
        return self._taken(), seen

    def collect(self, state: State) -> dict[str, Any]:
        """Its own word where it has one: parameters, slots of optimizers and averages, as they are sharded."""
        trainer = self._given(state)
        if callable(getattr(trainer, "collect", None)):
            return observed(trainer.collect(), named)
        collected = {f"parameters/{name}": x for name, x in parameters_of(attribute(trainer, "model")).items()}
        if self.functions.training.optimizer is not None or hasattr(trainer, "optimizer"):
            collected |= {f"optimizer/{name}": x for name, x in slots_of(attribute(trainer, "optimizer")).items()}
        average = parameters_of(attribute(trainer, "ema")) if self.functions.training.ema is not None else {}
        return collected | {f"ema/{name}": x for name, x in average.items()}

    def _taken(self) -> State:
        held = {name: value for name, value in vars(self.trainer).items() if _has_arrays(value)}
        nnx = sys.modules.get("flax.nnx")
        self.graph: Any = None
        if nnx is not None:
            self.graph, held = nnx.split(held)
        leaves, self.containers = jax.tree_util.tree_flatten(held)
        self.keys = {n: jax.random.key_impl(x) for n, x in enumerate(leaves) if _is_key(x)}
        plain = [jax.random.key_data(x) if n in self.keys else x for n, x in enumerate(leaves)]
        return jax.tree_util.tree_unflatten(self.containers, plain)

    def _given(self, state: State) -> Any:
        """The trainer with this state in it."""
        leaves = jax.tree_util.tree_leaves(state)
        leaves = [jax.random.wrap_key_data(x, impl=self.keys[n]) if n in self.keys else x for n, x in enumerate(leaves)]
        held = jax.tree_util.tree_unflatten(self.containers, leaves)
        nnx = sys.modules.get("flax.nnx")
        vars(self.trainer).update(held if nnx is None else nnx.merge(self.graph, held, copy=True))
        return self.trainer


class Trainer(Implementation):
    """The trainer, whose state is what it keeps."""

    framework = "jax"

    def place(self, parameters: Arrays, mesh: jax.sharding.Mesh) -> State:
        self.trainers = _Trainers(self.contract, self.contract.model.candidate, self.dtype)
        return self.trainers.made(parameters, mesh)

    def step(self, state: State, batch: Arrays) -> tuple[State, Mapping[str, Any]]:
        return self.trainers.step(state, batch)

    def collect(self, state: State) -> Mapping[str, Any]:
        return self.trainers.collect(state)

    def declare(self) -> Declarations:
        return declared(self.contract.model.declared, self.mesh, self.dtype)


class TrainerReference:
    """A trainer on one device, which is given None for a mesh."""

    def __init__(self, contract: Contract, dtype: str) -> None:
        self.trainers = _Trainers(contract, contract.model.reference, dtype)

    def place(self, parameters: Arrays) -> State:
        return self.trainers.made(parameters, None)

    def step(self, state: State, batch: Arrays) -> tuple[State, Mapping[str, Any]]:
        return self.trainers.step(state, batch)

    def collect(self, state: State) -> Mapping[str, Any]:
        return self.trainers.collect(state)


def _has_arrays(value: Any) -> bool:
    return any(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in jax.tree_util.tree_leaves(value))


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
