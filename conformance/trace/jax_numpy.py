"""JAX's primitives in numpy: the elementary functions, and what stochastic arithmetic leaves as it is.

Each operation is called with the equation and its operands, and gives the value of its one result. Dim 0 of every array
is the member of an ensemble, of which the equation knows nothing: its dim n is dim n + 1 here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.trace.jax_version import JaxprEqn, shape

Operation = Callable[..., Any]


def _each(function: Callable[..., Any]) -> Operation:
    """Element by element; a scalar may stand beside an array."""

    def operation(eqn: JaxprEqn, *values: np.ndarray) -> Any:
        return function(*aligned(values))

    return operation


def aligned(values: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """Scalars of members get the dims of the array beside them, all of size 1."""
    most = max(value.ndim for value in values)
    return [v if v.ndim == most else v.reshape(-1, *[1] * (most - 1)) for v in values]


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of whole numbers it is cut off towards zero; what 0 divides is -1, as in JAX."""
    if a.dtype.kind not in "iu":
        value: np.ndarray = np.divide(a, b)
        return value
    safe = np.where(b == 0, 1, b)
    return np.where(b == 0, -1, (a - np.fmod(a, safe)) // safe)


def _integer_pow(eqn: JaxprEqn, x: np.ndarray) -> np.ndarray:
    power = eqn.params["y"]
    product = np.ones_like(x)
    for _ in range(abs(power)):
        product = product * x
    return 1 / product if power < 0 else product


def _select_n(eqn: JaxprEqn, *values: np.ndarray) -> np.ndarray:
    which, *cases = aligned(values)
    if len(cases) == 2:
        return np.where(which, cases[1], cases[0])
    return np.choose(which.astype(int), cases) if len(cases) > 1 else cases[0]


def _broadcast(eqn: JaxprEqn, x: np.ndarray, *_: Any) -> np.ndarray:
    wanted, between = eqn.params["shape"], [1] * len(eqn.params["shape"])
    for size, dim in zip(x.shape[1:], eqn.params["broadcast_dimensions"], strict=True):
        between[dim] = size
    return np.broadcast_to(x.reshape(len(x), *between), (len(x), *wanted))


def _to_result(eqn: JaxprEqn, x: np.ndarray, *_: Any) -> np.ndarray:
    return x.reshape(len(x), *shape(eqn.outvars[0]))


def _slice(eqn: JaxprEqn, x: np.ndarray) -> np.ndarray:
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or [1] * len(starts)
    return x[(slice(None), *(slice(*bounds) for bounds in zip(starts, limits, strides, strict=True)))]


def _within(dims: Any) -> tuple[int, ...]:
    return tuple(dim + 1 for dim in dims)


def _reduce(function: Callable[..., Any]) -> Operation:
    return lambda eqn, x: function(x, axis=_within(eqn.params["axes"]))


FUNCTIONS: dict[str, Operation] = {
    "pow": _each(np.power),
    "sqrt": _each(np.sqrt),
    "rsqrt": _each(lambda x: 1 / np.sqrt(x)),
    "exp": _each(np.exp),
    "exp2": _each(np.exp2),
    "expm1": _each(np.expm1),
    "log": _each(np.log),
    "log1p": _each(np.log1p),
    "logistic": _each(lambda x: 1 / (1 + np.exp(-x))),
    "sin": _each(np.sin),
    "cos": _each(np.cos),
    "tan": _each(np.tan),
    "tanh": _each(np.tanh),
    "sinh": _each(np.sinh),
    "cosh": _each(np.cosh),
}
PLAIN: dict[str, Operation] = {
    "add": _each(np.add),
    "add_any": _each(np.add),
    "sub": _each(np.subtract),
    "mul": _each(np.multiply),
    "div": _each(_quotient),
    "integer_pow": _integer_pow,
    "square": _each(np.square),
    "neg": _each(np.negative),
    "abs": _each(np.abs),
    "sign": _each(np.sign),
    "max": _each(np.maximum),
    "min": _each(np.minimum),
    "floor": _each(np.floor),
    "ceil": _each(np.ceil),
    "is_finite": _each(np.isfinite),
    "eq": _each(np.equal),
    "ne": _each(np.not_equal),
    "lt": _each(np.less),
    "le": _each(np.less_equal),
    "gt": _each(np.greater),
    "ge": _each(np.greater_equal),
    "and": _each(np.bitwise_and),
    "or": _each(np.bitwise_or),
    "xor": _each(np.bitwise_xor),
    "not": _each(np.invert),
    "select_n": _select_n,
    "broadcast_in_dim": _broadcast,
    "reshape": _to_result,
    "squeeze": _to_result,
    "expand_dims": _to_result,
    "transpose": lambda eqn, x: x.transpose(0, *_within(eqn.params["permutation"])),
    "rev": lambda eqn, x: np.flip(x, _within(eqn.params["dimensions"])),
    "concatenate": lambda eqn, *xs: np.concatenate(xs, axis=eqn.params["dimension"] + 1),
    "slice": _slice,
    "convert_element_type": lambda eqn, x: x,  # every result is given its dtype
    "reduce_max": _reduce(np.max),
    "reduce_min": _reduce(np.min),
    "reduce_and": _reduce(np.all),
    "reduce_or": _reduce(np.any),
}
# Left to JAX; what comes out was not rounded.
DATA_MOVEMENT = (
    "split", "gather", "scatter", "scatter-min", "scatter-max", "pad", "sort", "top_k", "argmax", "argmin", "rem",
    "clamp", "round", "nextafter", "dynamic_slice", "dynamic_update_slice", "cummax", "cummin", "reduce_precision",
    "bitcast_convert_type", "reduce_window_max", "real", "imag", "complex", "conj", "iota",
)  # fmt: skip
