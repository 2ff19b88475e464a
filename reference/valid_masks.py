"""Which rows and tokens of a batch count, and which are padding.

B: rows  S: tokens of a row
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Valid:
    """A way to choose what counts.

    tokens  (generator, rows, length) -> mask and attention mask [B, S], both of 0 and 1
    whole   (generator, rows) -> mask [B] of models without tokens; a power of two are valid, so that a mean of
            squares does not round
    """

    tokens: Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]
    whole: Callable[[np.random.Generator, int], np.ndarray]


def ragged(rng: np.random.Generator, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Mask and attention mask [B, S].

    One row has no valid token, one exactly one, one all of them; the others lie between.
    With two rows: one valid token and many; with one row: many. Rows come in random order.
    """
    special = {1: [], 2: [1], 3: [0, 1]}.get(rows, [0, 1, length])
    others = rng.integers(2, length, rows - len(special)) if length > 2 else np.full(rows - len(special), length)
    counts = rng.permutation(np.concatenate([special, others]).astype(int))
    return _stacked(rng, counts, length)


def skewed(rng: np.random.Generator, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Mask and attention mask [B, S], in which contiguous shards of the rows differ extremely.

    The first third of the rows has no valid token, the next row exactly one, the rest of the second third few, the last
    third nearly all. One row alone has nearly all.
    """
    none, full = _thirds(rows)
    counts = np.zeros(rows, dtype=int)
    counts[none:] = rng.integers(1, -(-length // 4) + 1, rows - none)
    counts[none] = 1
    counts[rows - full :] = rng.integers(max(length - 2, 1), length + 1, full)
    return _stacked(rng, counts, length)


def _thirds(rows: int) -> tuple[int, int]:
    """How many rows at the start have nothing, and how many at the end nearly everything: at least one has."""
    return min(-(-rows // 3), rows - 1), max(rows // 3, 1)


def power_of_two(rng: np.random.Generator, rows: int) -> np.ndarray:
    """The largest power of two that leaves at least one row out is valid (one row alone is valid)."""
    valid = 2 ** ((max(rows - 1, 1)).bit_length() - 1)
    return rng.permutation(np.arange(rows) < valid).astype(np.float64)


def power_of_two_skewed(rng: np.random.Generator, rows: int) -> np.ndarray:
    """No row of the first third is valid, of the second third only the first, of the last third nearly all."""
    none, full = _thirds(rows)
    mask = np.zeros(rows)
    mask[none] = 1
    valid = 2 ** ((full + 1).bit_length() - 1)
    mask[rows - full :][-max(valid - 1, 1) :] = 1
    return mask


RAGGED = Valid(tokens=ragged, whole=power_of_two)
SKEWED = Valid(tokens=skewed, whole=power_of_two_skewed)


def _stacked(rng: np.random.Generator, counts: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = [_row(rng, count, length) for count in counts]
    return np.stack([mask for mask, _ in pairs]), np.stack([attention_mask for _, attention_mask in pairs])


def _row(rng: np.random.Generator, valid: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """A row of `valid` valid tokens among real ones, padded on the left, on the right, inside, or not at all."""
    real = int(rng.integers(max(valid, 1), length + 1))
    first = int(rng.integers(0, length - real + 1))
    attention_mask = np.zeros(length)
    attention_mask[[slice(length - real, None), slice(real), slice(first, first + real)][rng.integers(3)]] = 1
    if rng.random() < 0.5:  # anywhere: holes inside the row
        attention_mask = rng.permutation(attention_mask)
    mask = np.zeros(length)
    mask[rng.permutation(np.flatnonzero(attention_mask))[:valid]] = 1
    return mask, attention_mask
