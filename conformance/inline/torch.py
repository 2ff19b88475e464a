"""The two sides of `conformance.check` in torch: plain functions in the clothes of the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from conformance.contract.contract import Contract
from conformance.contract.implementation import Implementation
from conformance.inline.inputs import refuse_complex
from conformance.workers.lookup import load


class Reference:
    """The single-device function, differentiated with respect to every parameter."""

    def __init__(self, contract: Contract, dtype: str) -> None:
        self.dtype = dtype
        self.function = load(contract.model.reference)

    def place(self, parameters: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        return _cast(parameters, self.dtype)

    def step(self, state: dict[str, Any], batch: dict[str, np.ndarray]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        leaves = {name: value.clone().requires_grad_() for name, value in state.items()}
        returned = self.function(leaves, _cast(batch, self.dtype))
        loss, outputs = returned if isinstance(returned, tuple) else (returned, {})
        outputs = outputs if isinstance(outputs, Mapping) else {"y": outputs}
        refuse_complex({name: value.is_complex() for name, value in outputs.items()})
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
        named = dict(zip(leaves, gradients, strict=True))
        seen = {f"outputs/{name}": value.detach() for name, value in outputs.items()} | {"loss": loss.detach()}
        return state, seen | {f"gradients/{name}": named[name] for name in reversed(list(named))}

    def collect(self, state: dict[str, Any]) -> Mapping[str, Any]:
        return {f"parameters/{name}": value for name, value in state.items()}


class Candidate(Implementation):
    """The sharded function on every rank; placing is its own affair, so the state is the canonical parameters."""

    framework = "torch"

    def place(self, parameters: dict[str, np.ndarray], mesh: Any) -> dict[str, Any]:
        self.function, self.device_mesh = load(self.contract.model.candidate), mesh
        return _cast(parameters, self.dtype)

    def step(self, state: dict[str, Any], batch: dict[str, np.ndarray]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        leaves = {name: value.clone().requires_grad_() for name, value in state.items()}
        return state, self.function(leaves, _cast(batch, self.dtype), self.device_mesh)

    def collect(self, state: dict[str, Any]) -> Mapping[str, Any]:
        master = torch.float64 if self.dtype == "float64" else torch.float32
        return {f"parameters/{name}": value.to(master) for name, value in state.items()}


def _cast(arrays: Mapping[str, np.ndarray], dtype: str) -> dict[str, torch.Tensor]:
    floating = getattr(torch, dtype)
    tensors = {name: torch.as_tensor(value) for name, value in arrays.items()}
    return {name: value.to(floating) if value.is_floating_point() else value for name, value in tensors.items()}
