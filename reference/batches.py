"""Batches with the awkward features of real data: ragged masks, padding on every side, ids at shard edges.

B: rows  S: tokens of a row
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from reference.architecture import CLASSIFIERS, Architecture
from reference.byte_corpus import text_batches
from reference.cancellation import cancelling_batches
from reference.edges import shard_edges, with_shard_edges
from reference.packing import completed
from reference.parameters import Arrays, dyadic_numbers, generator, to_float32_values
from reference.valid_masks import RAGGED, SKEWED, Valid

__all__ = [
    "cancelling_batches",
    "cut",
    "parts",
    "random_batches",
    "shard_edges",
    "skewed_batches",
    "slices",
    "text_batches",
    "weighted_batches",
    "with_shard_edges",
]

_WEIGHTS = (0.5, 1.0, 2.0, 4.0)


def random_batches(
    model: Architecture, rows: int, length: int, seed: int, steps: int, dyadic: bool = False
) -> list[Arrays]:
    """One batch per step, all different. `length` counts the tokens of a row, where a row has tokens.

    Law: all rows differ; floats are float64 arrays of float32 values, or k/4 with `dyadic`; masks hold 0
    and 1. At least one element of a batch is valid. A row of a linear model or a classifier is valid or not (of two or
    more at least one is not), and a power of two are, so that the division of the loss is exact. Elsewhere valid tokens
    are ragged (see `ragged`) and never on padding.
    What else the model reads follows `completed`.
    """
    names = [f"batch {step}" for step in range(steps)]
    made = [_batch(model, rows, length, generator(seed, name), RAGGED, dyadic) for name in names]
    return [_completed(model, batch, seed, step) for step, batch in enumerate(made)]


def skewed_batches(
    model: Architecture, rows: int, length: int, seed: int, steps: int, dyadic: bool = False
) -> list[Arrays]:
    """As `random_batches`, but valid tokens lie so that contiguous shards of the rows differ extremely.

    Law: of 3 shards or more the first has no valid token at all; of 2 shards the first has few and the second most (see
    `skewed`): dividing by the valid tokens of a shard divides by zero, and a mean of means is far off.
    """
    names = [f"skewed {step}" for step in range(steps)]
    made = [_batch(model, rows, length, generator(seed, name), SKEWED, dyadic) for name in names]
    return [_completed(model, batch, seed, step) for step, batch in enumerate(made)]


def weighted_batches(model: Architecture, rows: int, length: int, seed: int, steps: int) -> list[Arrays]:
    """As `random_batches`, but what counts has weights of 1/2, 1, 2 and 4 in `mask`, all of them about equally often.

    Law: the loss is sum(weight * loss) / sum(weight), and the number of tokens is the sum of weights.
    """
    batches = random_batches(model, rows, length, seed, steps)
    for step, batch in enumerate(batches):
        batch["mask"] = _weighted(generator(seed, f"weights {step}"), batch["mask"])
    return batches


def _completed(model: Architecture, batch: Arrays, seed: int, step: int) -> Arrays:
    """What else the model reads; where labels are the next tokens, they too reach the edges of shards."""
    complete = completed(model, batch, seed, step)
    shifted = model.kind == "language_model" and model.shift_labels
    return with_shard_edges(model, complete, seed, step) if shifted else complete


def _batch(model: Architecture, rows: int, length: int, rng: np.random.Generator, valid: Valid, dyadic: bool) -> Arrays:
    if model.kind == "linear":
        inputs, targets = _floats(rng, (rows, model.hidden), dyadic), _floats(rng, (rows, model.outputs), dyadic)
        return {"inputs": inputs, "targets": targets, "mask": valid.whole(rng, rows)}
    if model.kind == "contrastive":
        return {"inputs": _floats(rng, (rows, 2, model.hidden), dyadic), "mask": valid.whole(rng, rows)}
    if model.kind in CLASSIFIERS:
        return _classified(model, rows, rng, valid, dyadic)
    mask_BS, attention_mask_BS = valid.tokens(rng, rows, length)
    if model.kind == "language_model":
        tokens_BS = _ids(rng, model.vocabulary, attention_mask_BS)
        targets_BS = _ids(rng, model.vocabulary, mask_BS)
        batch = {"tokens": tokens_BS, "targets": targets_BS, "mask": mask_BS}
        return batch | {"attention_mask": attention_mask_BS} if model.layers else batch
    shape = (rows, length, model.hidden)
    batch = {"inputs": _floats(rng, shape, dyadic), "targets": _floats(rng, shape, dyadic), "mask": mask_BS}
    return batch if model.kind == "feedforward" else batch | {"attention_mask": attention_mask_BS}


def _classified(model: Architecture, rows: int, rng: np.random.Generator, valid: Valid, dyadic: bool) -> Arrays:
    """Numbers and a class for each row; the valid rows have the classes at the edges of shards."""
    perceptron = model.kind == "perceptron"
    row_shape, classes = (model.widths[:1], model.widths[-1]) if perceptron else (model.image, model.outputs)
    inputs, mask_B = _floats(rng, (rows, *row_shape), dyadic), valid.whole(rng, rows)
    return {"inputs": inputs, "targets": _ids(rng, classes, mask_B), "mask": mask_B}


def _weighted(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    weighted = mask.copy()
    valid = np.flatnonzero(mask)
    weighted.reshape(-1)[valid] = rng.permutation(np.resize(_WEIGHTS, len(valid)))
    return weighted


def _floats(rng: np.random.Generator, shape: tuple[int, ...], dyadic: bool) -> np.ndarray:
    """Numbers around 1/4, each row on a scale of its own between 1/2 and 2."""
    if dyadic:
        return dyadic_numbers(rng, shape)
    scale = rng.uniform(0.5, 2.0, (shape[0],) + (1,) * (len(shape) - 1))
    return to_float32_values(scale * rng.normal(0.25, 1.0, shape))


def _ids(rng: np.random.Generator, vocabulary: int, important: np.ndarray) -> np.ndarray:
    """Ids of tokens or classes from a small pool, so that some repeat.

    Where the mask says that ids matter, 0, the last id and then the shard edges in random order are put, each once.
    """
    pool = rng.integers(0, vocabulary, max(important.size // 2, 1))
    ids = rng.choice(pool, important.shape).astype(np.int32)
    wanted = np.concatenate([[0, vocabulary - 1], rng.permutation(shard_edges(vocabulary))])
    places = rng.permutation(np.flatnonzero(important))[: len(wanted)]
    ids.reshape(-1)[places] = wanted[: len(places)]
    return ids


def slices(batch: Mapping[str, Any], number: int, shares: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """Cut a batch into `number` slices along dim 0, equal ones, or in proportion to `shares`.

    Raises ValueError where its rows do not divide, or where there are not as many shares as slices.
    """
    shares, rows = shares or (1,) * number, len(next(iter(batch.values())))
    if len(shares) != number:
        raise ValueError(f"{len(shares)} shares {shares} cannot make {number} slices: give one share for each slice.")
    if rows % sum(shares):
        kind = "equal slices" if len(set(shares)) == 1 else f"slices of {shares} shares"
        raise ValueError(f"A batch of {rows} rows cannot be cut into {number} {kind}: change one of the numbers.")
    return cut(batch, [share * rows // sum(shares) for share in shares])


def parts(batch: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
    """Cut a batch into as many parts as it has rows, but `most` at most, whose rows differ by one at most."""
    rows = len(next(iter(batch.values())))
    number = min(most, rows)
    return cut(batch, [rows // number + (i < rows % number) for i in range(number)])


def cut(batch: Mapping[str, Any], sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Consecutive rows of a batch, so many each."""
    ends = list(accumulate(sizes, initial=0))
    return [{key: value[start:end] for key, value in batch.items()} for start, end in pairwise(ends)]
