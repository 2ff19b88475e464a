"""`Reordered` and `Packed` as JAX pytrees, so that a traced step may return them: all but the array is static."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import jax
import numpy as np

from conformance.contract.implementation import Packed, Reordered

Static = tuple[tuple[int, ...], tuple[tuple[int, tuple[int, ...]], ...]]


def _flatten(arranged: Reordered) -> tuple[tuple[Any], Static]:
    index_map = ((dim, tuple(np.asarray(where).tolist())) for dim, where in sorted(arranged.index_map.items()))
    return (arranged.value,), (tuple(arranged.shape), tuple(index_map))


def _unflatten(static: Static, children: Any) -> Reordered:
    shape, index_map = static
    return Reordered(value=children[0], shape=shape, index_map={dim: np.array(where) for dim, where in index_map})


def _flatten_packed(packed: Packed) -> tuple[tuple[Any], Any]:
    return (packed.value,), (packed.start, packed.size, tuple(packed.placements.items()), tuple(packed.shape))


def _unflatten_packed(static: Any, children: Any) -> Packed:
    start, size, placements, shape = static
    return Packed(value=children[0], start=start, size=size, placements=dict(placements), shape=shape)


def register() -> None:
    """Make both known to JAX; harmless when they already are."""
    with suppress(ValueError):
        jax.tree_util.register_pytree_node(Reordered, _flatten, _unflatten)
        jax.tree_util.register_pytree_node(Packed, _flatten_packed, _unflatten_packed)
