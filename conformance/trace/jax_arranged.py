"""`Arranged` as a JAX pytree, so that a traced step may return it: the stored array is its child, the rest static."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import jax
import numpy as np

from conformance.implementation import Arranged

Static = tuple[tuple[int, ...], tuple[tuple[int, tuple[int, ...]], ...]]


def _flatten(arranged: Arranged) -> tuple[tuple[Any], Static]:
    positions = ((dim, tuple(np.asarray(where).tolist())) for dim, where in sorted(arranged.positions.items()))
    return (arranged.value,), (tuple(arranged.shape), tuple(positions))


def _unflatten(static: Static, children: Any) -> Arranged:
    shape, positions = static
    return Arranged(value=children[0], shape=shape, positions={dim: np.array(where) for dim, where in positions})


def register() -> None:
    """Make `Arranged` known to JAX; harmless when it already is."""
    with suppress(ValueError):
        jax.tree_util.register_pytree_node(Arranged, _flatten, _unflatten)
