"""Batches of a language model of which two quarters are alike and weigh 64 and -64: large gradients that cancel.

What is left is the gradient of the other two quarters, a hundred times smaller. A sum of the quarters in bfloat16
rounds it away; in float32 it keeps it. Parameters may be perturbed: the two quarters stay alike.

Where queries of all quarters meet the same keys, the quarters stay alike only if what attention gives them is the same
to the bit, in whatever order blocks of keys come: `indifferent` parameters, and rows of one word each, see to that.

B: rows  S: tokens of a row
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from reference.architecture import Architecture
from reference.parameters import Arrays, draw, generator

HEAVY = 64.0
HEAVIER = 512.0  # of rows of one word: what is alike to the bit cancels whatever it weighs
SCORING = (".query.weight", ".key.weight")
_ROWS, _TOKENS = 0, 1  # dims


def _batches(
    dim: int, one_word: bool, model: Architecture, rows: int, length: int, seed: int, steps: int
) -> list[Arrays]:
    """One batch per step. Along `dim` the first and the last quarter are alike and weigh HEAVY and -HEAVY.

    With `one_word`, all tokens of a row are one and the same, their targets are not, and they weigh HEAVIER.

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
    return [_batch(dim, one_word, model, rows, length, generator(seed, f"opposed {step}")) for step in range(steps)]


def _batch(dim: int, one_word: bool, model: Architecture, rows: int, length: int, rng: np.random.Generator) -> Arrays:
    shape = (rows, length)
    batch = {key: rng.integers(0, model.vocabulary, shape).astype(np.int32) for key in ("tokens", "targets")}
    if one_word:
        batch["tokens"] = _of_one_word(batch["tokens"], model.vocabulary)
    batch = {key: _alike(ids, dim) for key, ids in batch.items()} | {
        "mask": _weights(shape, dim, HEAVIER if one_word else HEAVY)
    }
    if not model.layers:
        return batch
    document_starts_BS = np.zeros(shape)
    document_starts_BS[:, :: length // 4 if dim == _TOKENS else length] = 1
    return (
        batch
        | {"attention_mask": np.ones(shape)}
        | ({"document_starts": document_starts_BS} if model.documents else {})
    )


def _of_one_word(ids: np.ndarray, vocabulary: int) -> np.ndarray:
    """Rows of their first word each; that of the first two rows is the first and the last of the vocabulary."""
    words = ids[:, :1].copy()
    words[:2, 0] = 0, vocabulary - 1
    return np.repeat(words, ids.shape[_TOKENS], axis=_TOKENS)


def _alike(ids: np.ndarray, dim: int) -> np.ndarray:
    """The last quarter is the first one again."""
    first, second, third, _ = np.split(ids, 4, axis=dim)
    return np.concatenate([first, second, third, first], axis=dim)


def _weights(shape: tuple[int, int], dim: int, heavy: float) -> np.ndarray:
    quarters = np.repeat([heavy, 1.0, 1.0, -heavy], shape[dim] // 4)
    return np.broadcast_to(quarters[:, None] if dim == _ROWS else quarters, shape).copy()


def indifferent(shapes: Mapping[str, tuple[int, ...]], seed: int) -> Arrays:
    """Parameters of which every query sees all keys alike: attention gives the mean of the values.

    Gradients of queries and keys are zero, those of values are not.
    """
    return {
        name: np.zeros_like(value) if name.endswith(SCORING) else value for name, value in draw(shapes, seed).items()
    }


opposed_rows = partial(_batches, _ROWS, False)  # quarters of the rows: cancel over what divides them, and over slices
opposed_tokens = partial(_batches, _TOKENS, False)  # of every row, each a document where the model has documents
opposed_words = partial(_batches, _TOKENS, True)  # of every row, all of whose tokens are one word
