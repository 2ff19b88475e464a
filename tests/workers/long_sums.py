"""Two contracts whose loss is a mean: of 12 terms, and of 20,000."""

from __future__ import annotations

import numpy as np

from conformance.contract.contract import Contract, Recipe


class JaxReference:
    """loss = mean((x w)^2), in JAX."""

    def __init__(self, contract: Contract, dtype: str) -> None:
        import jax
        import jax.numpy as jnp

        self.program = jax.jit(jax.value_and_grad(lambda w, x: jnp.mean((x * w) ** 2)))

    def place(self, parameters: dict) -> dict:
        return parameters

    def step(self, state: dict, batch: dict) -> tuple[dict, dict]:
        loss, gradient = self.program(state["w"], batch["x"])
        return state, {"loss": loss, "gradients/w": gradient}

    def collect(self, state: dict) -> dict:
        return {"parameters/w": state["w"]}


class TorchReference(JaxReference):
    """The same in torch."""

    def __init__(self, contract: Contract, dtype: str) -> None:
        pass

    def step(self, state: dict, batch: dict) -> tuple[dict, dict]:
        import torch

        w = torch.tensor(state["w"], requires_grad=True)
        loss = ((torch.tensor(batch["x"]) * w) ** 2).mean()
        [gradient] = torch.autograd.grad(loss, [w])
        return state, {"loss": loss.detach(), "gradients/w": gradient}


def _contract(name: str, terms: int) -> Contract:
    return Contract(
        name=name,
        summary="the mean of many squares",
        model=None,
        shapes={"w": ()},
        parameters=lambda seed: {"w": np.array(1.25)},
        batches=lambda seed, steps: [{"x": np.random.default_rng(seed).normal(size=terms)}] * steps,
        references={"jax": f"{__file__}:JaxReference", "torch": f"{__file__}:TorchReference"},
        recipe=Recipe(steps=1),
    )


SHORT = _contract("sums/short", 12)
LONG = _contract("sums/long", 20_000)
