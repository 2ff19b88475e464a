"""A small contract on which every relation holds: a running sum of tokens, a linear map, dropout, SGD with momentum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from conformance.contract.contract import Arrays, Contract, Recipe
from conformance.relations import RELATIONS

HERE = Path(__file__).resolve().parent
ROWS, LENGTH, IN, OUT = 12, 8, 6, 16


@dataclass(frozen=True, kw_only=True)
class Model:
    dropout: float


def _parameters(out: int, seed: int) -> Arrays:
    rng = np.random.default_rng([seed, 1])
    return {"w": rng.normal(size=(IN, out)), "b": rng.normal(size=(out,))}


def _batches(seed: int, steps: int) -> list[Arrays]:
    return [_batch(np.random.default_rng([seed, 2, step])) for step in range(steps)]


def _batch(rng: np.random.Generator) -> Arrays:
    mask = (rng.random((ROWS, LENGTH)) < 0.6).astype(float)
    seeds = rng.integers(2**31, size=ROWS, dtype=np.int32)
    return {"inputs": rng.normal(size=(ROWS, LENGTH, IN)), "mask": mask, "seeds": seeds}


def _contract(name: str, dropout: float, relations: tuple[str, ...], out: int = OUT) -> Contract:
    return Contract(
        name=f"lawful/{name}",
        summary="y = dropout(running sum of tokens @ w + b)",
        model=Model(dropout=dropout),
        shapes={"w": (IN, out), "b": (out,)},
        parameters=partial(_parameters, out),
        batches=_batches,
        references={framework: f"{HERE / f'lawful_{framework}.py'}:Reference" for framework in ("jax", "torch")},
        recipe=Recipe(steps=3, learning_rate=0.125, accumulation=2),
        relations=relations,
    )


CONTRACT = _contract("dropout", 0.25, tuple(RELATIONS))
WITHOUT_DROPOUT = _contract("plain", 0.0, tuple(relation for relation in RELATIONS if relation != "dropout masks"))
# Of other sizes: what the relation `second model` builds beside them.
NARROW = _contract("narrow", 0.25, (), out=8)
NARROW_WITHOUT_DROPOUT = _contract("narrow_plain", 0.0, (), out=8)
