"""Rounding to a dtype, of one array and of every partial sum."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import jax
import jax.numpy as jnp


def rounded(x: jax.Array, dtype: str) -> jax.Array:
    """x in a dtype. Law: what has been rounded stays so; XLA leaves out a plain conversion there and back."""
    wide, narrow = jnp.finfo(x.dtype), jnp.finfo(dtype)  # type: ignore[no-untyped-call]
    if narrow.bits < wide.bits:
        x = jax.lax.reduce_precision(x, narrow.nexp, narrow.nmant)
    return x.astype(dtype)


def rounded_total(terms: Iterable[jax.Array], dtype: str) -> jax.Array:
    """The sum of arrays in a dtype, first to last: each term and each partial sum is rounded to it."""
    wide = jnp.promote_types(dtype, "float32")
    return reduce(lambda x, y: rounded(x.astype(wide) + y, dtype), (rounded(term, dtype) for term in terms))
