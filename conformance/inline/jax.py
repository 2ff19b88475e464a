"""The two sides of `conformance.check` in JAX: plain functions in the clothes of the protocol."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from conformance.contract.contract import Contract
from conformance.contract.implementation import Implementation
from conformance.inline.inputs import refuse_complex
from conformance.workers.lookup import load

_LOG = logging.getLogger("shardproof.inline")


class Reference:
    """The single-device function, differentiated with respect to every parameter."""

    def __init__(self, contract: Contract, dtype: str) -> None:
        self.dtype = dtype
        self.differentiated = jax.value_and_grad(_with_outputs(load(contract.model.reference)), has_aux=True)
        self.compiled: Any = jax.jit(self.differentiated)

    def place(self, parameters: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        return _cast(parameters, self.dtype)

    def step(self, state: dict[str, Any], batch: dict[str, np.ndarray]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        (loss, outputs), gradients = self._evaluated(state, _cast(batch, self.dtype))
        return state, observations(loss, outputs, gradients)

    def _evaluated(self, state: dict[str, Any], batch: dict[str, Any]) -> Any:
        """Compiled; a function that looks at values cannot be, and runs as it stands."""
        if self.compiled is not None:
            try:
                return self.compiled(state, batch)
            except Exception:
                _LOG.debug("The function does not compile, and runs as it stands.", exc_info=True)
                self.compiled = None
        return self.differentiated(state, batch)

    def collect(self, state: dict[str, Any]) -> Mapping[str, Any]:
        return {f"parameters/{name}": value for name, value in state.items()}


class Candidate(Implementation):
    """The sharded function; placing is its own affair, so the state is the canonical parameters."""

    framework = "jax"

    def place(self, parameters: dict[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, Any]:
        self.function, self.device_mesh = load(self.contract.model.candidate), mesh
        return parameters

    def step(self, state: dict[str, Any], batch: dict[str, np.ndarray]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """The function gets arrays of its own: it may donate them."""
        return state, self.function(_cast(state, self.dtype), _cast(batch, self.dtype), self.device_mesh)

    def collect(self, state: dict[str, Any]) -> Mapping[str, Any]:
        return {f"parameters/{name}": value for name, value in state.items()}


def observations(loss: Any, outputs: Mapping[str, Any], gradients: Mapping[str, Any]) -> dict[str, Any]:
    """In data-flow order: outputs, loss, gradients from the last parameter to the first."""
    observed = {f"outputs/{name}": value for name, value in outputs.items()} | {"loss": loss}
    return observed | {f"gradients/{name}": gradients[name] for name in reversed(list(gradients))}


def _with_outputs(function: Any) -> Any:
    def returning_both(parameters: Any, batch: Any) -> tuple[Any, Mapping[str, Any]]:
        returned = function(parameters, batch)
        loss, outputs = returned if isinstance(returned, tuple) else (returned, {})
        outputs = outputs if isinstance(outputs, Mapping) else {"y": outputs}
        refuse_complex({name: jnp.iscomplexobj(value) for name, value in outputs.items()})
        return loss, outputs

    return returning_both


def _cast(arrays: Mapping[str, np.ndarray], dtype: str) -> dict[str, jax.Array]:
    return {
        name: jnp.array(a, dtype=dtype if np.issubdtype(a.dtype, np.floating) else None) for name, a in arrays.items()
    }
