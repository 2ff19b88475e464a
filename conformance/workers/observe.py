"""Observe: gather what the ranks hold into blocks; identical copies become one block with several ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.contract.errors import ShardproofError
from conformance.contract.implementation import Reordered
from conformance.evidence.blocks import merged, same_bits
from conformance.evidence.evidence import Block, Index, Observations, Observed


class Unreadable(ShardproofError):  # noqa: N818
    """An observation that cannot be read; the message is one sentence for the person who wrote the implementation."""


def plain(value: Any, ranks: Sequence[int]) -> Observed:
    """A number or an array on which every rank must agree; it is stored on no device that can be seen."""
    try:
        array = np.array(value)
    except (ValueError, TypeError, RuntimeError):  # rows of unequal length, a list of tensors
        array = np.array(None)
    if array.dtype.kind not in "biufcV" or array.dtype.hasobject or array.dtype.names:
        raise Unreadable(f"it is a {type(value).__name__}, where an array, a tensor or a number is wanted")
    whole = Block(ranks=tuple(ranks), index=whole_index(array.shape), value=widened(array))
    return Observed(shape=array.shape, dtype=str(array.dtype), blocks=(whole,))


def whole_index(shape: Sequence[int]) -> Index:
    return tuple(slice(0, size) for size in shape)


def widened(array: np.ndarray) -> np.ndarray:
    """bfloat16 and float8, which are not numpy's own, travel as float32, which holds them exactly."""
    if array.dtype.kind == "c":
        raise Unreadable("it is complex: return its real and its imaginary part as two observations")
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def arranged(stored: Observed, how: Reordered) -> Observed:
    """Stored blocks in canonical terms: padding dropped, each element under its canonical index."""
    index_map = {dim: np.asarray(where) for dim, where in how.index_map.items()}
    if len(how.shape) != len(stored.shape):
        raise Unreadable(f"it is stored with {len(stored.shape)} dims and arranged into {len(how.shape)}")
    for dim, where in index_map.items():
        if len(where) != stored.shape[dim]:
            raise Unreadable(f"dim {dim} has {stored.shape[dim]} stored elements, but its index map has {len(where)}")
        if len(where) and (where.min() < -1 or where.max() >= how.shape[dim]):
            raise Unreadable(f"a position in dim {dim} lies outside its {how.shape[dim]} elements")
    for dim, size in enumerate(how.shape):
        if dim not in index_map and size != stored.shape[dim]:
            raise Unreadable(f"dim {dim} has {stored.shape[dim]} stored elements for {size}, and no index map")
    blocks = merged([_canonical(block, index_map) for block in stored.blocks])
    return replace(stored, shape=tuple(how.shape), blocks=blocks, stored_shape=tuple(stored.shape))


def _canonical(block: Block, index_map: Mapping[int, np.ndarray]) -> Block:
    index: list[Any] = list(block.index)
    value = block.value
    for dim, where in index_map.items():
        held = where[index[dim]]
        value = np.compress(held >= 0, value, axis=dim)
        index[dim] = held[held >= 0]
    return replace(block, index=tuple(index), value=value)


def shared(again: Observations, first: Observations) -> Observations:
    """What was observed again: the very objects observed first where nothing differs, which are sent only once."""
    return {name: first[name] if _alike(observed, first.get(name)) else observed for name, observed in again.items()}


def _alike(observed: Observed, other: Observed | None) -> bool:
    return (
        other is not None and replace(observed, blocks=()) == replace(other, blocks=()) and same_bits(observed, other)
    )
