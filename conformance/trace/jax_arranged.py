"""`Arranged` and `Packed` as JAX pytrees, so that a traced step may return them: all but the array is static."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import jax
import numpy as np

from conformance.contract.implementation import Arranged, Packed

Static = tuple[tuple[int, ...], tuple[tuple[int, tuple[int, ...]], ...]]


def _flatten(arranged: Arranged) -> tuple[tuple[Any], Static]:
    positions = ((dim, tuple(np.asarray(where).tolist())) for dim, where in sorted(arranged.positions.items()))
    return (arranged.value,), (tuple(arranged.shape), tuple(positions))


def _unflatten(static: Static, children: Any) -> Arranged:
    shape, positions = static
    return Arranged(value=children[0], shape=shape, positions={dim: np.array(where) for dim, where in positions})


def _flatten_packed(packed: Packed) -> tuple[tuple[Any], Any]:
    return (packed.value,), (packed.start, packed.size, tuple(packed.placements.items()), tuple(packed.shape))


def _unflatten_packed(static: Any, children: Any) -> Packed:
    start, size, placements, shape = static
    return Packed(value=children[0], start=start, size=size, placements=dict(placements), shape=shape)


def register() -> None:
    """Make both known to JAX; harmless when they already are."""
    with suppress(ValueError):
        jax.tree_util.register_pytree_node(Arranged, _flatten, _unflatten)
        jax.tree_util.register_pytree_node(Packed, _flatten_packed, _unflatten_packed)
