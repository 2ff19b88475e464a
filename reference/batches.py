"""Batches with the awkward features of real data: ragged masks, padding on every side, ids at shard edges.

B: rows  S: tokens of a row  D: hidden  I, O: input and output features
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reference.architecture import Architecture
from reference.parameters import Arrays, dyadic_numbers, generator, to_float32_values
from reference.text import text_batches

__all__ = ["ragged", "random_batches", "shard_edges", "text_batches"]

_AXIS_SIZES = (2, 3, 4, 8)  # sizes of a tensor axis whose shard edges get tokens


def random_batches(
    model: Architecture, rows: int, length: int, seed: int, steps: int, dyadic: bool = False
) -> list[Arrays]:
    """One batch per step, all different. `length` counts the tokens of a row (unused by a linear model).

    Law: all rows differ; floats are float64 arrays of float32 values, or k/4 with `dyadic`; mask and padding hold 0
    and 1. At least one element of a batch is valid. A row of a linear model is valid or not, and a power of two are, so
    that the division of the loss is exact. Elsewhere valid tokens are ragged (see `ragged`) and never on padding.
    """
    return [_batch(model, rows, length, generator(seed, f"batch {step}"), dyadic) for step in range(steps)]


def _batch(model: Architecture, rows: int, length: int, rng: np.random.Generator, dyadic: bool) -> Arrays:
    if model.kind == "linear":
        inputs, targets = _floats(rng, (rows, model.hidden), dyadic), _floats(rng, (rows, model.outputs), dyadic)
        return {"inputs": inputs, "targets": targets, "mask": _power_of_two_mask(rng, rows)}
    mask_BS, padding_BS = ragged(rng, rows, length)
    if model.kind == "language_model":
        tokens_BS = _ids(rng, model.vocabulary, padding_BS)
        targets_BS = _ids(rng, model.vocabulary, mask_BS)
        batch = {"tokens": tokens_BS, "targets": targets_BS, "mask": mask_BS}
        return batch | {"padding": padding_BS} if model.layers else batch
    shape = (rows, length, model.hidden)
    batch = {"inputs": _floats(rng, shape, dyadic), "targets": _floats(rng, shape, dyadic), "mask": mask_BS}
    return batch if model.kind == "feedforward" else batch | {"padding": padding_BS}


def _floats(rng: np.random.Generator, shape: tuple[int, ...], dyadic: bool) -> np.ndarray:
    """Numbers around 1/4, each row on a scale of its own between 1/2 and 2."""
    if dyadic:
        return dyadic_numbers(rng, shape)
    scale = rng.uniform(0.5, 2.0, (shape[0],) + (1,) * (len(shape) - 1))
    return to_float32_values(scale * rng.normal(0.25, 1.0, shape))


def _power_of_two_mask(rng: np.random.Generator, rows: int) -> np.ndarray:
    """The largest power of two that leaves at least one row out is valid (one row alone is valid)."""
    valid = 2 ** ((max(rows - 1, 1)).bit_length() - 1)
    return rng.permutation(np.arange(rows) < valid).astype(np.float64)


def ragged(rng: np.random.Generator, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Mask and padding [B, S]. One row has no valid token, one exactly one, one all of them; the others lie between.

    With two rows: one valid token and many; with one row: many. Rows come in random order.
    """
    special = {1: [], 2: [1], 3: [0, 1]}.get(rows, [0, 1, length])
    others = rng.integers(2, length, rows - len(special)) if length > 2 else np.full(rows - len(special), length)
    counts = rng.permutation(np.concatenate([special, others]).astype(int))
    pairs = [_row(rng, count, length) for count in counts]
    return np.stack([mask for mask, _ in pairs]), np.stack([padding for _, padding in pairs])


def _row(rng: np.random.Generator, valid: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """A row of `valid` valid tokens among real ones, padded on the left, on the right, inside, or not at all."""
    real = int(rng.integers(max(valid, 1), length + 1))
    first = int(rng.integers(0, length - real + 1))
    padding = np.zeros(length)
    padding[[slice(length - real, None), slice(real), slice(first, first + real)][rng.integers(3)]] = 1
    if rng.random() < 0.5:  # anywhere: holes inside the row
        padding = rng.permutation(padding)
    mask = np.zeros(length)
    mask[rng.permutation(np.flatnonzero(padding))[:valid]] = 1
    return mask, padding


def shard_edges(vocabulary: int) -> np.ndarray:
    """First and last ids of vocabulary shards, cut in ceil-sized chunks or as evenly as can be, for common axes."""
    cuts = {part * -(-vocabulary // size) for size in _AXIS_SIZES for part in range(1, size)}
    cuts |= {part * vocabulary // size for size in _AXIS_SIZES for part in range(1, size)}
    edges = {cut - 1 for cut in cuts} | cuts
    return np.array(sorted(edge for edge in edges if 0 < edge < vocabulary - 1), dtype=np.int32)


def _ids(rng: np.random.Generator, vocabulary: int, important_BS: np.ndarray) -> np.ndarray:
    """Token ids from a small pool, so that some repeat.

    Where the mask says that ids matter, 0, the last id and then the shard edges in random order are put, each once.
    """
    pool = rng.integers(0, vocabulary, max(important_BS.size // 2, 1))
    ids = rng.choice(pool, important_BS.shape).astype(np.int32)
    wanted = np.concatenate([[0, vocabulary - 1], rng.permutation(shard_edges(vocabulary))])
    places = rng.permutation(np.flatnonzero(important_BS))[: len(wanted)]
    ids.reshape(-1)[places] = wanted[: len(places)]
    return ids


def slices(batch: Mapping[str, Any], number: int) -> list[dict[str, Any]]:
    """Cut a batch into `number` equal slices along dim 0. Raises ValueError where its rows do not divide."""
    rows = len(next(iter(batch.values())))
    if rows % number:
        raise ValueError(f"A batch of {rows} rows cannot be cut into {number} equal slices: change one of the numbers.")
    size = rows // number
    return [{key: value[i * size : (i + 1) * size] for key, value in batch.items()} for i in range(number)]
