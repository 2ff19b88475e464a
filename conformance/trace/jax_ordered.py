"""JAX operations whose result depends on the order of their terms, in an arithmetic of one's choice.

Dim 0 of every array is the member.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from conformance.trace import jax_version as version
from conformance.trace.arithmetic import Arithmetic
from conformance.trace.jax_version import JaxprEqn


def bound(eqn: JaxprEqn, values: list[Any]) -> list[Any]:
    """One equation of one member, evaluated by JAX."""
    arrays = [value if is_key(value) else jax.numpy.asarray(value) for value in values]
    return version.bind(eqn, arrays, inside=True)


def is_key(value: Any) -> bool:
    """A key of random draws: numpy has no type for it, and all members draw alike."""
    return isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.extended)


def _sum(arithmetic: Arithmetic, eqn: JaxprEqn, x: np.ndarray) -> np.ndarray:
    return arithmetic.total(x, [dim + 1 for dim in eqn.params["axes"]])


def _prod(arithmetic: Arithmetic, eqn: JaxprEqn, x: np.ndarray) -> np.ndarray:
    return arithmetic.multiplied(x, [dim + 1 for dim in eqn.params["axes"]])


def _cumsum(arithmetic: Arithmetic, eqn: JaxprEqn, x: np.ndarray) -> np.ndarray:
    return arithmetic.running(x, eqn.params["axis"] + 1, reverse=eqn.params["reverse"])


def _dot_general(arithmetic: Arithmetic, eqn: JaxprEqn, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    (a_sum, b_sum), (a_batch, b_batch) = eqn.params["dimension_numbers"]
    dtype = version.dtype(eqn.outvars[0])
    left = _matrices(a.astype(dtype, copy=False), a_batch, None, a_sum)
    right = _matrices(b.astype(dtype, copy=False), b_batch, b_sum, None)
    return arithmetic.product(left, right).reshape(len(a), *version.shape(eqn.outvars[0]))


def _matrices(x: np.ndarray, batch: Any, rows: Any, columns: Any) -> np.ndarray:
    """(member, batch, rows, columns), dims of each kind made one; None stands for the dims that are left."""
    left = [dim for dim in range(x.ndim - 1) if dim not in (*batch, *(rows or ()), *(columns or ()))]
    kinds = [[dim + 1 for dim in kind] for kind in (batch, left if rows is None else rows,
                                                    left if columns is None else columns)]  # fmt: skip
    sizes = [math.prod(x.shape[dim] for dim in kind) for kind in kinds]
    return x.transpose(0, *kinds[0], *kinds[1], *kinds[2]).reshape(len(x), *sizes)


def _scatter_add(arithmetic: Arithmetic, eqn: JaxprEqn, *values: np.ndarray) -> np.ndarray:
    """Updates in another order: those that meet in one place are added up in it."""
    numbers = eqn.params["dimension_numbers"]
    free = [dim for dim in range(values[2].ndim - 1) if dim not in numbers.update_window_dims]
    sums = []
    for x, where, y in zip(*values, strict=True):
        if free and not numbers.scatter_indices_batching_dims:
            longest = max(range(len(free)), key=lambda n: y.shape[free[n]])
            [order] = arithmetic.orders(1, y.shape[free[longest]])
            where, y = where.take(order, longest), y.take(order, free[longest])
        sums.append(np.asarray(bound(eqn, [x, where, y])[0]))
    return arithmetic.rounded(np.stack(sums))


def _convolution(arithmetic: Arithmetic, eqn: JaxprEqn, *values: np.ndarray) -> np.ndarray:
    """Input channels in another order, every term rounded."""
    numbers = eqn.params["dimension_numbers"]
    grouped = eqn.params["feature_group_count"] > 1 or eqn.params["batch_group_count"] > 1
    convolved = []
    for x, kernel in zip(*map(arithmetic.rounded, values), strict=True):
        [order] = arithmetic.orders(1, x.shape[numbers.lhs_spec[1]])
        if not grouped:
            x, kernel = x.take(order, numbers.lhs_spec[1]), kernel.take(order, numbers.rhs_spec[1])
        convolved.append(np.asarray(bound(eqn, [x, kernel])[0]))
    return arithmetic.rounded(np.stack(convolved))


ORDERED: dict[str, Callable[..., np.ndarray]] = {
    "reduce_sum": _sum,
    "reduce_prod": _prod,
    "cumsum": _cumsum,
    "dot_general": _dot_general,
    "scatter-add": _scatter_add,
    "conv_general_dilated": _convolution,
}
