"""The two sides of `conformance.check` in JAX that are functions, in the clothes of the protocol."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from conformance.cases.functions import Functions
from conformance.contract.contract import Arrays, Contract
from conformance.contract.implementation import Declarations, Implementation
from conformance.inline.calling import called, declared
from conformance.inline.inputs import refuse_complex
from conformance.inline.jax_model import Model, Values, cast, in_dtype, is_module, named, slots_of
from conformance.inline.observed import named as observed
from conformance.inline.observed import outputs_of
from conformance.workers.lookup import load

_LOG = logging.getLogger("shardproof.inline")
State = dict[str, Any]


class Reference:
    """The single-device function, differentiated with respect to every parameter that is trained, and its training.

    A state holds parameters, the buffers and random streams of a module, and what an optimizer and an average keep.
    """

    def __init__(self, contract: Contract, dtype: str) -> None:
        functions: Functions = contract.model
        self.functions, self.training, self.compute = functions, functions.training, dtype
        self.dtype = contract.recipe.precision.dtype("parameters", dtype) if functions.trains else dtype
        self.model, self.function = Model(functions), load(functions.reference)
        self.optimizer = None if self.training.optimizer is None else called(self.training.optimizer)
        self.has_loss = True  # until the function returns outputs alone
        self.compiled: Any = jax.jit(self._trained)

    def place(self, parameters: Arrays) -> State:
        held = cast(parameters, self.dtype)
        slots = None if self.optimizer is None else self.optimizer.init(self.model.trained(held))
        average = {} if self.training.ema is None else dict(held)
        return {"parameters": held, **self.model.kept(self.dtype), "optimizer": slots, "ema": average}

    def step(self, state: State, batch: Arrays) -> tuple[State, Mapping[str, Any]]:
        after, (loss, outputs, gradients, norm) = self._evaluated(state, cast(batch, self.compute))
        seen = {f"outputs/{name}": value for name, value in outputs.items()}
        if self.has_loss:
            backwards = [name for name in reversed(self.functions.parameters) if name in gradients]
            seen |= {"loss": loss} | {f"gradients/{name}": gradients[name] for name in backwards}
        if self.training.clip_norm is not None:
            seen["metrics/grad_norm"] = norm
        seen |= {f"buffers/{name}": value for name, value in after["buffers"].items()}
        return after if self.functions.trains else state, seen

    def collect(self, state: State) -> Mapping[str, Any]:
        collected = {f"parameters/{name}": value for name, value in state["parameters"].items()}
        if self.optimizer is not None:
            collected |= {f"optimizer/{name}": value for name, value in slots_of(state["optimizer"]).items()}
        return collected | {f"ema/{name}": value for name, value in state["ema"].items()}

    def _evaluated(self, state: State, batch: Values) -> Any:
        """Compiled; a function that looks at values cannot be, and runs as it stands."""
        if self.compiled is not None:
            try:
                return self.compiled(state, batch)
            except Exception:
                _LOG.debug("The function does not compile, and runs as it stands.", exc_info=True)
                self.compiled = None
        return self._trained(state, batch)

    def _trained(self, state: State, batch: Values) -> tuple[State, Any]:
        loss, outputs, gradients, kept = self._differentiated(state, batch)
        norm = optax.global_norm(gradients)
        after = {**state, **kept}
        if self.optimizer is not None:
            after |= self._updated(state, gradients)
        return after, (loss, outputs, gradients, norm)

    def _updated(self, state: State, gradients: Values) -> State:
        """By the optimizer, whose gradients are clipped; then the average follows."""
        assert self.optimizer is not None
        clip, held = self.training.clip_norm, state["parameters"]
        decay = self.training.ema if isinstance(self.training.ema, float) else 0.0
        if clip is not None:
            gradients, _ = optax.clip_by_global_norm(clip).update(gradients, optax.EmptyState())
        trained = self.model.trained(held)
        updates, slots = self.optimizer.update(self.model.trained(gradients), state["optimizer"], trained)
        held = {**held, **named(optax.apply_updates(trained, updates))}
        average = {name: decay * value + (1 - decay) * held[name] for name, value in state["ema"].items()}
        return {"parameters": held, "optimizer": slots, "ema": average}

    def _differentiated(self, state: State, batch: Values) -> tuple[Any, Values, Values, State]:
        """Loss, outputs and gradients of all slices, which follow each other, and what the module keeps after them."""
        held, kept, parts = state["parameters"], {key: state[key] for key in ("buffers", "streams")}, []
        trained = {name: value for name, value in held.items() if name not in self.functions.frozen}
        for part in _slices(batch, self.training.slices):
            loss = partial(self._loss, held=held, kept=kept, batch=part)
            (value, (outputs, kept)), gradients = jax.value_and_grad(loss, has_aux=True)(
                in_dtype(trained, self.compute)
            )
            parts.append((value, outputs, in_dtype(gradients, self.dtype)))
        if len(parts) == 1:
            return *parts[0], kept
        losses, outputs, gradients = zip(*parts, strict=True)
        return _mean(losses), jax.tree.map(lambda *x: _joined(x), *outputs), jax.tree.map(_means, *gradients), kept

    def _loss(self, trained: Values, held: Values, kept: State, batch: Values) -> tuple[Any, Any]:
        values = {**in_dtype(held, self.compute), **trained}
        model = self.model.built(values, {**kept, "buffers": in_dtype(kept["buffers"], self.compute)})
        loss, outputs = outputs_of(self.function(model, batch), named)
        refuse_complex({name: jnp.iscomplexobj(value) for name, value in outputs.items()})
        self.has_loss = loss is not None
        after = self.model.kept_by(model)
        after["buffers"] = in_dtype(after["buffers"], self.dtype)
        return (loss if self.has_loss else jnp.zeros(())), (outputs, after)


class Candidate(Implementation):
    """The sharded function; placing is its own affair, so the state is the canonical parameters."""

    framework = "jax"

    def place(self, parameters: Arrays, mesh: jax.sharding.Mesh) -> dict[str, Any]:
        self.model, self.device_mesh = Model(self.contract.model), mesh
        self.function = load(self.contract.model.candidate)
        return parameters

    def step(self, state: Arrays, batch: Arrays) -> tuple[Arrays, Mapping[str, Any]]:
        """The function gets arrays of its own: it may donate them."""
        model = self.model.built(cast(state, self.dtype), self.model.kept(self.dtype))
        seen = observed(self.function(model, cast(batch, self.dtype), self.device_mesh), named)
        if is_module(model):
            buffers = self.model.kept_by(model)["buffers"]
            seen = {f"buffers/{name}": value for name, value in buffers.items()} | seen
        return state, seen

    def collect(self, state: Arrays) -> Mapping[str, Any]:
        return {f"parameters/{name}": value for name, value in state.items()}

    def declare(self) -> Declarations:
        return declared(self.contract.model.declared, self.mesh, self.dtype)


def _slices(batch: Values, number: int) -> list[Values]:
    """Rows in their order, equally many in each slice; what has no rows is in all of them."""
    return [
        {key: x if not x.ndim else x[n * len(x) // number : (n + 1) * len(x) // number] for key, x in batch.items()}
        for n in range(number)
    ]


def _mean(values: Any) -> Any:
    return sum(values) / len(values)


def _means(*values: Any) -> Any:
    return _mean(values)


def _joined(parts: Any) -> Any:
    """Rows of all slices one after the other; of a number, the mean."""
    return jnp.concatenate(parts) if jnp.ndim(parts[0]) else _mean(parts)
