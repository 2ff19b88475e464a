"""Text that is available on every machine: the source of the Python standard library, byte by byte."""

from __future__ import annotations

import sysconfig
from functools import cache
from pathlib import Path

import numpy as np

from reference.architecture import Architecture
from reference.edges import with_shard_edges
from reference.packing import completed
from reference.parameters import Arrays, generator

_TRIES = 20  # to make a row unlike the others; very short rows run out of different ones


def text_batches(model: Architecture, rows: int, length: int, seed: int, steps: int) -> list[Arrays]:
    """One batch per step: tokens are bytes, targets the next byte. `length` counts the tokens of a row.

    Rows come in three shapes in turn: a window of one document; the end of one document packed with the start of the
    next; the end of a document, then padding. The last byte of a document has no next one: its mask is 0. Rows of a
    batch differ where they can, though text repeats itself. Ids at the edges of vocabulary shards that the text lacks
    take the place of some bytes (see `with_shard_edges`). What else the model reads follows `completed`; padding is a
    document of its own.
    Raises ValueError for a model that is no language model over at least 256 ids.
    """
    if model.kind != "language_model" or model.vocabulary < 256:
        raise ValueError("Text is read as bytes, so it needs a language model with a vocabulary of at least 256 ids.")
    batches = [_batch(rows, length, generator(seed, f"text {step}")) for step in range(steps)]
    complete = [completed(model, batch, seed, step) for step, batch in enumerate(batches)]
    return [with_shard_edges(model, batch, seed, step) for step, batch in enumerate(complete)]


def _repeats(row: Arrays, others: list[Arrays]) -> bool:
    return any(np.array_equal(row["tokens"], other["tokens"]) for other in others)


@cache
def documents() -> tuple[Path, ...]:
    """The standard library's own modules, by name; RuntimeError where their source is not installed."""
    modules = tuple(sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")))
    if not modules:
        raise RuntimeError("The source of the Python standard library is not installed here: there is no text to read.")
    return modules


def _batch(rows: int, length: int, rng: np.random.Generator) -> Arrays:
    shapes = (_window, _packed, _short)
    made: list[Arrays] = []
    for number in range(rows):
        row = shapes[number % len(shapes)](rng, length)
        for _ in range(_TRIES):
            if _repeats(row, made):
                row = shapes[number % len(shapes)](rng, length)
        made.append(row)
    return {
        key: np.stack([row[key] for row in made])
        for key in ("tokens", "targets", "mask", "attention_mask", "document_starts")
    }


def _document(rng: np.random.Generator, length: int) -> np.ndarray:
    """A random document of more than `length` bytes; short ones are passed over."""
    for number in rng.permutation(len(documents())):
        text = documents()[number].read_bytes()
        if len(text) > length:
            return np.frombuffer(text, dtype=np.uint8).astype(np.int32)
    raise ValueError(f"No document of the Python standard library has more than {length} bytes: ask for shorter rows.")


def _window(rng: np.random.Generator, length: int) -> Arrays:
    text = _document(rng, length)
    start = int(rng.integers(0, len(text) - length))
    return _shifted(text[start : start + length + 1], last_of_document=None, real=length)


def _packed(rng: np.random.Generator, length: int) -> Arrays:
    cut = int(rng.integers(1, max(length, 2)))
    text = np.concatenate([_document(rng, length)[-cut:], _document(rng, length)[: length + 1 - cut]])
    return _shifted(text, last_of_document=cut - 1, real=length)


def _short(rng: np.random.Generator, length: int) -> Arrays:
    real = int(rng.integers(length // 2 + 1, max(length, length // 2 + 2)))
    text = np.concatenate([_document(rng, length)[-real:], np.zeros(length + 1 - real, dtype=np.int32)])
    return _shifted(text, last_of_document=real - 1, real=real)


def _shifted(text: np.ndarray, *, last_of_document: int | None, real: int) -> Arrays:
    """Tokens and their successors from length + 1 bytes; the last byte of a document and the padding do not count."""
    attention_mask = (np.arange(len(text) - 1) < real).astype(np.float64)
    mask, document_starts = attention_mask.copy(), np.zeros(len(text))
    document_starts[0] = 1
    if last_of_document is not None:
        mask[last_of_document] = 0
        document_starts[last_of_document + 1] = 1
    return {
        "tokens": text[:-1],
        "targets": text[1:],
        "mask": mask,
        "attention_mask": attention_mask,
        "document_starts": document_starts[:-1],
    }
