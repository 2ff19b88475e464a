"""Optional batch keys: document starts, seeds, and targets that follow from the tokens.

B: rows  S: tokens of a row
"""

from __future__ import annotations

import numpy as np

from reference.architecture import Architecture
from reference.parameters import Arrays, generator

_SEEDS = 2**31  # seeds are int32


def completed(model: Architecture, batch: Arrays, seed: int, step: int) -> Arrays:
    """The batch as this model reads it; every key has its own generator, so that a new key does not change the others.

    `document_starts` is added (or kept) where the model attends within documents, `seeds` where it has dropout. With
    `shift_labels` the `targets` are left out, and the last token of a row or document, which has none, does not count.
    """
    batch = dict(batch)
    document_starts_BS = batch.pop("document_starts", None)
    if model.documents and "attention_mask" in batch:  # padding is for attention, and so are documents
        if document_starts_BS is None:
            document_starts_BS = document_starts(generator(seed, f"documents {step}"), *batch["mask"].shape)
        batch["document_starts"] = document_starts_BS
    if model.kind == "language_model" and model.shift_labels:
        del batch["targets"]
        batch |= _with_targets_only(batch, last_tokens(batch["mask"].shape, batch.get("document_starts")))
    if model.dropout and model.kind in ("layer", "language_model"):
        rng = generator(seed, f"dropout {step}")
        batch["seeds"] = rng.choice(_SEEDS, len(batch["mask"]), replace=False).astype(np.int32)
    return batch


def document_starts(rng: np.random.Generator, rows: int, length: int) -> np.ndarray:
    """[B, S] of 0 and 1, 1 at the first token of each document.

    A row holds 1 to 4 documents that start anywhere; the first row two, cut in the middle; another row a single one.
    """
    document_starts_BS = np.zeros((rows, length))
    document_starts_BS[:, 0] = 1
    single = rng.integers(1, rows) if rows > 1 else None
    for row in range(rows):
        places = rng.permutation(np.arange(1, length))[: rng.integers(0, 4)]
        if row != single:
            document_starts_BS[row, places if row else [length // 2]] = 1
    return document_starts_BS


def last_tokens(shape: tuple[int, ...], document_starts_BS: np.ndarray | None) -> np.ndarray:
    """[B, S], true at the last token of each row, and of each document where rows hold several."""
    last_BS = np.zeros(shape, dtype=bool)
    if document_starts_BS is not None:
        last_BS[:, :-1] = document_starts_BS[:, 1:] > 0
    last_BS[:, -1] = True
    return last_BS


def _with_targets_only(batch: Arrays, last_BS: np.ndarray) -> Arrays:
    """Mask (and attention mask) with which no last token counts.

    A row that has thereby lost its only valid tokens gets another one, real if it can be, so every row keeps one.
    """
    mask_BS, attention_mask_BS = (
        np.where(last_BS, 0, batch["mask"]),
        batch.get("attention_mask", np.ones(last_BS.shape)).copy(),
    )
    lost = batch["mask"].any(axis=1) & ~mask_BS.any(axis=1) & ~last_BS.all(axis=1)
    for row in np.flatnonzero(lost):
        token = np.argmax(np.where(last_BS[row], 0, 1 + attention_mask_BS[row]))
        mask_BS[row, token] = attention_mask_BS[row, token] = 1
    return {"mask": mask_BS} | ({"attention_mask": attention_mask_BS} if "attention_mask" in batch else {})
