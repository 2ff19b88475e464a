"""The two sides of `conformance.check` in JAX: plain functions in the clothes of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from conformance.contract import Contract
from conformance.implementation import Implementation
from conformance.workers.lookup import load


class Reference:
    """The single-device function, differentiated with respect to every parameter."""

    def __init__(self, contract: Contract, dtype: str) -> None:
        self.dtype = dtype
        self.differentiated = jax.jit(jax.value_and_grad(_with_outputs(load(contract.model.reference)), has_aux=True))

    def place(self, parameters: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        return _cast(parameters, self.dtype)

    def step(self, state: dict, batch: dict[str, np.ndarray]) -> tuple[dict, Mapping[str, Any]]:
        (loss, outputs), gradients = self.differentiated(state, _cast(batch, self.dtype))
        return state, observations(loss, outputs, gradients)

    def collect(self, state: dict) -> Mapping[str, Any]:
        return {f"parameters/{name}": value for name, value in state.items()}


class Candidate(Implementation):
    """The sharded function; placing is its own affair, so the state is the canonical parameters."""

    framework = "jax"

    def place(self, parameters: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict:
        self.function, self.device_mesh = load(self.contract.model.candidate), mesh
        return _cast(parameters, self.dtype)

    def step(self, state: dict, batch: dict[str, np.ndarray]) -> tuple[dict, Mapping[str, Any]]:
        return state, self.function(state, _cast(batch, self.dtype), self.device_mesh)

    def collect(self, state: dict) -> Mapping[str, Any]:
        return {f"parameters/{name}": np.asarray(value.astype(_master(self.dtype))) for name, value in state.items()}


def observations(loss: Any, outputs: Mapping[str, Any], gradients: Mapping[str, Any]) -> dict[str, Any]:
    """In data-flow order: outputs, loss, gradients from the last parameter to the first."""
    found = {f"outputs/{name}": value for name, value in outputs.items()} | {"loss": loss}
    return found | {f"gradients/{name}": gradients[name] for name in reversed(list(gradients))}


def _with_outputs(function: Any) -> Any:
    def returning_both(parameters: Any, batch: Any) -> tuple[Any, Mapping[str, Any]]:
        found = function(parameters, batch)
        loss, outputs = found if isinstance(found, tuple) else (found, {})
        return loss, outputs if isinstance(outputs, Mapping) else {"y": outputs}

    return returning_both


def _cast(arrays: Mapping[str, np.ndarray], dtype: str) -> dict[str, jax.Array]:
    return {
        name: jnp.asarray(a, dtype=dtype if np.issubdtype(a.dtype, np.floating) else None) for name, a in arrays.items()
    }


def _master(dtype: str) -> str:
    return "float64" if dtype == "float64" else "float32"
