"""One equation of a traced JAX program in numpy, for several members at once: dim 0 of every array is the member.

What is not in the tables of numpy operations is left to JAX, one equation at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from conformance.trace import jax_version as version
from conformance.trace.arithmetic import Arithmetic
from conformance.trace.jax_numpy import FUNCTIONS, PLAIN
from conformance.trace.jax_ordered import ORDERED
from conformance.trace.jax_version import JaxprEqn

IDENTITIES = (
    "stop_gradient", "copy", "copy_p", "name", "optimization_barrier", "sharding_constraint", "device_put",
    "mesh_cast", "reshard",
)  # fmt: skip
_SUMS = ("add", "add_any", "sub")


def operated(arithmetic: Arithmetic, eqn: JaxprEqn, values: Sequence[Any]) -> list[Any] | None:
    """The results of an equation that holds no program; None where it is left to JAX."""
    name = eqn.primitive.name
    if name in _SUMS and np.issubdtype(version.dtype(eqn.outvars[0]), np.floating):
        total = _typed(PLAIN[name](eqn, *values), eqn)
        first, second = (value.reshape(value.shape + (1,) * (total.ndim - value.ndim)) for value in values)
        return [arithmetic.added(first, -second if name == "sub" else second, total)]
    if name in PLAIN:
        return [_typed(PLAIN[name](eqn, *values), eqn)]
    if name in FUNCTIONS:
        return [arithmetic.rounded(_typed(FUNCTIONS[name](eqn, *values), eqn))]
    if name in IDENTITIES or name in version.CASTS:
        return list(values)
    if name in ORDERED:
        return [_typed(ORDERED[name](arithmetic, eqn, *values), eqn)]
    return None


def _typed(value: Any, eqn: JaxprEqn) -> np.ndarray:
    typed: np.ndarray = value.astype(version.dtype(eqn.outvars[0]), copy=False)
    return typed
