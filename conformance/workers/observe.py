"""Observe: gather what the ranks hold into blocks; identical copies become one block with several ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from conformance.evidence import Block, Index, Observations, Observed
from conformance.implementation import Arranged

WIDENED = {"bfloat16": np.float32, "float8_e4m3fn": np.float32, "float8_e5m2": np.float32}


def plain(value: Any, ranks: Sequence[int]) -> Observed:
    """A number or an array on which every rank must agree; it is stored on no device."""
    array = np.array(value)
    if array.dtype.kind not in "biufV" or array.dtype.hasobject:
        raise ValueError(f"A {type(value).__name__} cannot be observed: observe arrays, tensors and numbers.")
    whole = Block(ranks=tuple(ranks), index=tuple(slice(0, size) for size in array.shape), value=widened(array))
    return Observed(shape=array.shape, dtype=str(array.dtype), blocks=(whole,))


def widened(array: np.ndarray) -> np.ndarray:
    """bfloat16 and float8 travel as float32, which holds them exactly."""
    return array.astype(WIDENED.get(str(array.dtype), array.dtype))


def arranged(stored: Observed, how: Arranged) -> Observed:
    """Stored blocks in canonical terms: padding dropped, each element under its canonical index."""
    blocks = tuple(_canonical(block, how.positions) for block in stored.blocks)
    return Observed(
        shape=tuple(how.shape),
        dtype=stored.dtype,
        blocks=blocks,
        stored_bytes=stored.stored_bytes,
        stored_shape=tuple(stored.shape),
    )


def _canonical(block: Block, positions: Mapping[int, np.ndarray]) -> Block:
    index: list[Any] = list(block.index)
    value = block.value
    for dim, order in positions.items():
        held = np.asarray(order)[block.index[dim]]
        value = np.compress(held >= 0, value, axis=dim)
        index[dim] = held[held >= 0]
    return Block(ranks=block.ranks, index=tuple(index), value=value, partial=block.partial)


def merged(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Blocks of the same place and the same bits (signed zeros and NaN payloads too) as one, in order of rank."""
    same: dict[tuple, list[Block]] = {}
    for block in blocks:
        key = (index_key(block.index), block.partial, block.value.dtype.str, block.value.tobytes())
        same.setdefault(key, []).append(block)
    found = [
        Block(
            ranks=tuple(sorted(rank for block in group for rank in block.ranks)),
            index=group[0].index,
            value=group[0].value,
            partial=group[0].partial,
        )
        for group in same.values()
    ]
    return tuple(sorted(found, key=lambda block: block.ranks))


def index_key(index: Index) -> tuple:
    return tuple((p.start, p.stop) if isinstance(p, slice) else p.tobytes() for p in index)


def joined(parts: Sequence[Observations]) -> Observations:
    """The observations of all ranks, as each of them saw them, in the order of the first that has them."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: _joined(name, [part[name] for part in parts if name in part]) for name in names}


def _joined(name: str, parts: Sequence[Observed]) -> Observed:
    first = parts[0]
    for part in parts:
        if (part.shape, part.dtype) != (first.shape, first.dtype):
            raise ValueError(
                f"The ranks do not agree on '{name}': it is {first.dtype} {list(first.shape)} on one and "
                f"{part.dtype} {list(part.shape)} on another."
            )
    return Observed(
        shape=first.shape,
        dtype=first.dtype,
        blocks=merged([block for part in parts for block in part.blocks]),
        stored_bytes={rank: size for part in parts for rank, size in part.stored_bytes.items()},
        stored_shape=first.stored_shape,
    )


def same_bits(one: Observations, other: Observations) -> bool:
    """Whether two sets of observations hold the same bits on the same ranks."""

    def content(observations: Observations) -> dict:
        return {
            name: [(block.ranks, index_key(block.index), block.value.tobytes()) for block in observed.blocks]
            for name, observed in observations.items()
        }

    return content(one) == content(other)
