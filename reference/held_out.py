"""Batches that carry a data set to evaluate on beside the rows that are trained on.

B: rows
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reference.architecture import Architecture
from reference.batches import random_batches
from reference.parameters import Arrays

PREFIX = "evaluation."  # of the keys of that data set
ROWS = 29  # of it: a prime, so that neither devices nor batches divide it


def evaluated_batches(model: Architecture, rows: int, length: int, seed: int, steps: int) -> list[Arrays]:
    """As `random_batches`, and in each of them 29 more rows under keys that begin with `evaluation.`; none has seeds.

    All of those rows are real; their valid tokens are as ragged as those of the others.
    """
    training = random_batches(model, rows, length, seed, steps)
    held_out = random_batches(replace(model, dropout=0.0), ROWS, length, seed + 1, steps)
    return [
        batch | {f"{PREFIX}{key}": value for key, value in other.items()}
        for batch, other in zip(training, held_out, strict=True)
    ]


def apart(batch: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the training batch, the evaluation batch under its plain keys)."""
    training = {key: value for key, value in batch.items() if not key.startswith(PREFIX)}
    return training, {key.removeprefix(PREFIX): value for key, value in batch.items() if key.startswith(PREFIX)}
