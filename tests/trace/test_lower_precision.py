"""What a float64 program rounds to fewer bits is named with its line; whole numbers, masks and random bits are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax

from conformance.trace.jax_stochastic import StochasticStep
from conformance.trace.stochastic import Stochastic
from conformance.trace.torch_stochastic import StochasticStep as TorchStochasticStep

X = np.random.default_rng(0).normal(size=(4, 6))
MASK, IDS = np.array([1.0, 0.0, 1.0, 1.0]), np.arange(4)

IN_JAX: dict[str, tuple[Callable[[Any, Any], Any], str | None]] = {
    "wide": (lambda x, b: jnp.mean(jax.nn.softmax(x) ** 2), None),
    "exp": (lambda x, b: jnp.mean(jnp.exp(x.astype("float32")).astype("float64")), "exp"),
    "a conversion alone": (lambda x, b: jnp.sum(x.astype("float32").astype("float64") ** 2), "convert_element_type"),
    "one number": (lambda x, b: jnp.sqrt(jnp.sum(x * x).astype("float32")).astype("float64"), "sqrt"),
    "mask": (lambda x, b: jnp.sum(x * b["mask"].astype("float32")[:, None]) / jnp.float32(b["mask"].sum()), None),
    "whole numbers": (lambda x, b: jnp.sum(x * b["ids"].astype("float32")[:, None]), None),
    "positions divided": (lambda x, b: jnp.sum(x * (b["ids"].astype("float32") / 3)[:, None]), "div"),
    "random bits": (lambda x, b: jnp.sum(x * (_drawn(x) < 0.5)), None),
    "random numbers": (lambda x, b: jnp.sum(x * x + _drawn(x)), None),
    "an index": (lambda x, b: jnp.sum(x[jnp.argmax(jnp.exp(x[:, 0].astype("float32")))]), None),
    "a loop": (lambda x, b: lax.scan(_turn, jnp.float32(0), x)[0].astype("float64"), "sin"),
    "bfloat16": (lambda x, b: jnp.sum(jnp.sin(x.astype("bfloat16")).astype("float32").astype("float64")), "sin"),
}
IN_TORCH: dict[str, tuple[Callable[[Any, Any], Any], str | None]] = {
    "wide": (lambda x, b: torch.softmax(torch.layer_norm(x, (6,)), -1).pow(2).mean(), None),
    "exp": (lambda x, b: x.float().exp().mean().double(), "exp"),
    "a conversion alone": (lambda x, b: x.float().double().pow(2).sum(), "_to_copy"),
    "one number": (lambda x, b: (x * x).sum().float().sqrt().double(), "sqrt"),
    "the inverse of a scale": (lambda x, b: (x * b["mask"].sum().add(1).reciprocal().float()).sum(), None),
    "the inverse of three": (lambda x, b: (x * b["mask"].sum().reciprocal().float()).sum(), "_to_copy"),
    "the inverse of three in bfloat16": (
        lambda x, b: (x * b["mask"].sum().bfloat16().reciprocal()).sum(),
        "reciprocal",
    ),
    "softmax": (lambda x, b: torch.softmax(x, -1, dtype=torch.float32).double().pow(2).mean(), "_softmax"),
    "mask": (lambda x, b: (x * b["mask"].float()[:, None]).sum() / b["mask"].float().sum(), None),
    "whole numbers": (lambda x, b: (x * b["ids"].float()[:, None]).sum(), None),
    "positions divided": (lambda x, b: (x * (b["ids"].float() / 3)[:, None]).sum(), "div"),
    "random bits": (lambda x, b: (x * (torch.rand(4, 6) < 0.5)).sum(), None),
    "random numbers": (lambda x, b: (x * x + torch.randn(4, 6)).sum(), None),
    "an index": (lambda x, b: x[x[:, 0].float().exp().argmax()].sum(), None),
    "dropout": (lambda x, b: torch.dropout(x, 0.1, True).sum(), None),
    "bfloat16": (lambda x, b: x.bfloat16().sin().double().sum(), "sin"),
}


def _drawn(x: Any) -> Any:
    return jax.random.uniform(jax.random.key(0), x.shape, "float32")


def _turn(total: Any, row: Any) -> tuple[Any, None]:
    return total + jnp.sin(row.astype("float32")).sum(), None


@pytest.mark.parametrize("kind", IN_JAX)
def test_jax_reference(kind: str) -> None:
    function, named = IN_JAX[kind]
    step = StochasticStep(
        lambda state, batch: (state, dict(zip(("loss", "x"), jax.value_and_grad(function)(state, batch), strict=True)))
    )
    step([X], [{"mask": MASK, "ids": IDS}], Stochastic(0))
    judged(step.lower, named)


@pytest.mark.parametrize("kind", IN_TORCH)
def test_torch_reference(kind: str) -> None:
    function, named = IN_TORCH[kind]

    def differentiated(state: Any, batch: Any) -> tuple[Any, Any]:
        x = state.clone().requires_grad_()
        loss = function(x, batch)
        return state, {"loss": loss.detach(), "gradients/x": torch.autograd.grad(loss, x)[0]}

    step = TorchStochasticStep(differentiated)
    batch = {"mask": torch.as_tensor(MASK), "ids": torch.as_tensor(IDS)}
    step([torch.as_tensor(X)], [batch], Stochastic(0))
    judged(step.lower, named)


def judged(lower: Any, named: str | None) -> None:
    if named is None:
        assert lower == ()
    else:
        assert lower[0].operation == named
        assert "test_lower_precision.py:" in lower[0].place
