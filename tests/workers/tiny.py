"""A tiny contract that both frameworks can honour, named by its file: y = x @ w, loss = half the mean square of y."""

from __future__ import annotations

import numpy as np

from conformance.contract.contract import Arrays, Contract, Recipe

ROWS, IN, OUT = 8, 6, 5
MODEL = None


def _parameters(seed: int) -> Arrays:
    return {"w": np.random.default_rng([seed, 1]).integers(-8, 9, (IN, OUT)) / 8}


def _batches(seed: int, steps: int) -> list[Arrays]:
    rng = np.random.default_rng([seed, 2])
    masks = rng.permutation(np.arange(ROWS) < 4).astype(np.float64)
    return [{"x": rng.integers(-8, 9, (ROWS, IN)) / 8, "mask": masks, "unused": np.arange(4)} for _ in range(steps)]


def _contract(name: str, exact: bool) -> Contract:
    return Contract(
        name=f"tiny/{name}",
        summary="y = x @ w over the valid rows",
        model=MODEL,
        shapes={"w": (IN, OUT)},
        parameters=_parameters,
        batches=_batches,
        references={
            "jax": f"{__file__.replace('tiny.py', 'jax_programs.py')}:Reference",
            "torch": f"{__file__.replace('tiny.py', 'torch_programs.py')}:Reference",
        },
        recipe=Recipe(steps=2),
        exact=exact,
    )


CONTRACT = _contract("linear", exact=False)
