"""Batches that prescribe the routing: the experts of every token, independent of its router.

Two runs that round differently may choose differently where two experts score almost alike, and both are right. Where
the choice is prescribed, all that hangs on it can be compared in any dtype. It is as uneven as can be: one expert that
most tokens ask for, one with a single token, one with none.
"""

from __future__ import annotations

import numpy as np

from conformance.contract.contract import Arrays
from reference.architecture import Architecture, mixtures
from reference.batches import random_batches
from reference.parameters import generator


def routed_batches(model: Architecture, rows: int, length: int, seed: int, steps: int) -> list[Arrays]:
    """Random batches with routing.<name> [rows, length, top_k] for every mixture, another one in every step."""
    batches = random_batches(model, rows, length, seed, steps)
    return [
        batch | {f"routing.{name}": _choices(model, rows, length, seed, f"{name} {step}") for name in mixtures(model)}
        for step, batch in enumerate(batches)
    ]


def _choices(model: Architecture, rows: int, length: int, seed: int, where: str) -> np.ndarray:
    """Distinct experts for every token: number 0 asked for most, the last but one once, the last one never."""
    rng = generator(seed, f"routing {where}")
    asked = model.experts - 2
    appeal = rng.random((rows, length, asked)) / np.where(np.arange(asked) == 0, 4, 1)
    choices_BSK = np.argsort(appeal, axis=-1)[..., : model.top_k].astype(np.int32)
    choices_BSK[rows // 2, 0, 0] = asked  # the first token of a row is real
    return choices_BSK
