"""Rounding to a dtype, of one array and of every partial sum."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add

from torch import Tensor

from reference.torch.layers import dtype_of


def rounded(x: Tensor, dtype: str) -> Tensor:
    """x in a dtype."""
    return x.to(dtype_of(dtype))


def rounded_total(terms: Iterable[Tensor], dtype: str) -> Tensor:
    """The sum of arrays in a dtype, first to last: each term and each partial sum is rounded to it."""
    return reduce(add, (rounded(term, dtype) for term in terms))
