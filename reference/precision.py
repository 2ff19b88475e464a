"""Which dtype does what in a training step, as dtype names that both frameworks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_BITS = {"float16": 16, "bfloat16": 16, "float32": 32, "float64": 64}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The dtypes of one training step.

    master      parameters, optimizer state, gradients as reported; never narrower than float32
    compute     parameters and activations as the model sees them, and the results of its matrix products
    statistics  norm statistics, rows of a softmax, logsumexp, losses and their sums; never narrower than master
    """

    master: str
    compute: str
    statistics: str


def policy(dtype: str, precision: Any) -> Policy:
    """The policy of a case dtype under a recipe's precision (duck-typed: `compute`, `statistics`).

    `precision.compute` replaces the dtype of the case unless it is None. Raises ValueError for a dtype without rules.
    """
    compute = precision.compute or dtype
    for name in (dtype, compute):
        if name not in _BITS:
            raise ValueError(f"No precision rules for dtype '{name}': use one of {', '.join(_BITS)}.")
    master = "float64" if dtype == "float64" else "float32"
    statistics = max(master, precision.statistics or master, key=lambda name: _BITS[name])
    return Policy(master=master, compute=compute, statistics=statistics)
