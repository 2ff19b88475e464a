"""Somebody's trainer in JAX: a class that is made with the parameters and a mesh, and takes steps.

It runs as it stands. Its state is what it holds after a step, and a trace of a step begins by giving it such a state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from conformance.cases.functions import Functions
from conformance.contract.contract import Arrays, Contract
from conformance.contract.implementation import Declarations, Implementation
from conformance.inline.calling import attribute, constructed, declared
from conformance.inline.jax_held import Held, Holder
from conformance.inline.jax_model import Model, cast, is_module, named, parameters_of, slots_of, variables_of
from conformance.inline.observed import named as observed
from conformance.workers.observe import Unreadable


class _Trainers:
    """Makes trainers of one class, has them step, and reads what they have learnt."""

    def __init__(self, contract: Contract, path: str, dtype: str) -> None:
        self.functions: Functions = contract.model
        self.path, self.compute, self.model = path, dtype, Model(self.functions)
        self.dtype = contract.recipe.precision.dtype("parameters", dtype)

    def made(self, parameters: Arrays, mesh: Any) -> Held:
        model = self.model.built(cast(parameters, self.dtype), self.model.kept(self.dtype))
        return Holder(constructed(self.path, model, mesh, jnp.dtype(self.compute))).taken()

    def step(self, state: Held, batch: Arrays) -> tuple[Held, dict[str, Any]]:
        if any(isinstance(x, jax.core.Tracer) for x in batch.values()):
            self._refuse_hidden(state)
        trainer = state.trainer
        seen = observed(trainer.step(cast(batch, self.compute)), named)
        model = getattr(trainer, "model", None)
        if is_module(model):
            seen = {f"buffers/{name}": value for name, value in variables_of(model)[1].items()} | seen
        return state.beside.holder.taken(), seen

    def collect(self, state: Held) -> dict[str, Any]:
        """Its own word where it has one: parameters, slots of optimizers and averages, as they are sharded."""
        trainer = state.trainer
        if callable(getattr(trainer, "collect", None)):
            return observed(trainer.collect(), named)
        collected = {f"parameters/{name}": x for name, x in parameters_of(attribute(trainer, "model")).items()}
        if self.functions.training.optimizer is not None or hasattr(trainer, "optimizer"):
            collected |= {f"optimizer/{name}": x for name, x in slots_of(attribute(trainer, "optimizer")).items()}
        average = parameters_of(attribute(trainer, "ema")) if self.functions.training.ema is not None else {}
        return collected | {f"ema/{name}": x for name, x in average.items()}

    def _refuse_hidden(self, state: Held) -> None:
        """Parameters that are in no attribute would be constants of the traced program."""
        try:
            collected = self.collect(state)
        except Exception:  # its own `collect` may need values, which is no reason
            return
        for name, value in collected.items():
            array = isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
            if array and name.startswith("parameters/"):
                kind = type(state.trainer).__name__
                raise Unreadable(f"'{name}' is in no attribute of {kind}, nor of an object that it holds")


class Trainer(Implementation):
    """The trainer, whose state is what it keeps."""

    framework = "jax"

    def place(self, parameters: Arrays, mesh: jax.sharding.Mesh) -> Held:
        self.trainers = _Trainers(self.contract, self.contract.model.candidate, self.dtype)
        return self.trainers.made(parameters, mesh)

    def step(self, state: Held, batch: Arrays) -> tuple[Held, Mapping[str, Any]]:
        return self.trainers.step(state, batch)

    def collect(self, state: Held) -> Mapping[str, Any]:
        return self.trainers.collect(state)

    def declare(self) -> Declarations:
        return declared(self.contract.model.declared, self.mesh, self.dtype)


class TrainerReference:
    """A trainer on one device, which is given None for a mesh; what it keeps, a trace may not see."""

    keeps = True

    def __init__(self, contract: Contract, dtype: str) -> None:
        self.trainers = _Trainers(contract, contract.model.reference, dtype)

    def place(self, parameters: Arrays) -> Held:
        return self.trainers.made(parameters, None)

    def step(self, state: Held, batch: Arrays) -> tuple[Held, Mapping[str, Any]]:
        return self.trainers.step(state, batch)

    def collect(self, state: Held) -> Mapping[str, Any]:
        return self.trainers.collect(state)
