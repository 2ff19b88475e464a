"""Batches of a language model of which two quarters are alike and weigh 64 and -64: large gradients that cancel.

What is left is the gradient of the other two quarters, a hundred times smaller. A sum of the quarters in bfloat16
rounds it away; in float32 it keeps it. Parameters may be perturbed: the two quarters stay alike.

B: rows  S: tokens of a row
"""

from __future__ import annotations

from functools import partial

import numpy as np

from reference.architecture import Architecture
from reference.parameters import Arrays, generator

HEAVY = 64.0
_ROWS, _TOKENS = 0, 1  # dims


def _batches(dim: int, model: Architecture, rows: int, length: int, seed: int, steps: int) -> list[Arrays]:
    """One batch per step. Along `dim` the first and the last quarter are alike and weigh HEAVY and -HEAVY.

    Law: a device with at most a quarter of them has rows of one weight only, so its gradients are ordinary
    products. A sum over the quarters, in the order of places or in pairs one or two places apart, adds a light part to
    a heavy one before the heavy ones meet. All tokens are valid.
    Raises ValueError for another kind of model, for dropout, and for what does not divide into four.
    """
    if model.kind != "language_model" or model.dropout or model.shift_labels or (rows, length)[dim] % 4:
        raise ValueError(
            f"Opposed batches are of four quarters, for a language model without dropout and shifted labels, not of "
            f"{rows} rows of {length} tokens for kind '{model.kind}'."
        )
    return [_batch(dim, model, rows, length, generator(seed, f"opposed {step}")) for step in range(steps)]


def _batch(dim: int, model: Architecture, rows: int, length: int, rng: np.random.Generator) -> Arrays:
    shape = (rows, length)
    batch = {key: rng.integers(0, model.vocabulary, shape).astype(np.int32) for key in ("tokens", "targets")}
    batch = {key: _alike(ids, dim) for key, ids in batch.items()} | {"mask": _weights(shape, dim)}
    if not model.layers:
        return batch
    document_starts_BS = np.zeros(shape)
    document_starts_BS[:, :: length // 4 if dim == _TOKENS else length] = 1
    return (
        batch
        | {"attention_mask": np.ones(shape)}
        | ({"document_starts": document_starts_BS} if model.documents else {})
    )


def _alike(ids: np.ndarray, dim: int) -> np.ndarray:
    """The last quarter is the first one again."""
    first, second, third, _ = np.split(ids, 4, axis=dim)
    return np.concatenate([first, second, third, first], axis=dim)


def _weights(shape: tuple[int, int], dim: int) -> np.ndarray:
    quarters = np.repeat([HEAVY, 1.0, 1.0, -HEAVY], shape[dim] // 4)
    return np.broadcast_to(quarters[:, None] if dim == _ROWS else quarters, shape).copy()


opposed_rows = partial(_batches, _ROWS)  # quarters of the rows: cancel over the axes that divide them, and over slices
opposed_tokens = partial(_batches, _TOKENS)  # quarters of every row, each a document where the model has documents
