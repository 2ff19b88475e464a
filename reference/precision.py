"""Which dtype does what in a training step, as dtype names that both frameworks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_BITS = {"float16": 16, "bfloat16": 16, "float32": 32, "float64": 64}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The dtypes of one training step.

    parameters  parameters between steps
    compute     parameters and activations as the model sees them, and the results of its matrix products
    gradients   gradients of a slice, their sum over slices, and gradients as reported
    reduction   in which gradients are summed over devices, one by one; None: nothing was declared
    master      the copy of the parameters that the optimizer updates, an optimizer slot; None: there is none
    optimizer   clipping, the update and all other slots; never narrower than float32
    statistics  norm statistics, rows of a softmax, logsumexp, losses and their sums; never narrower than float32
    """

    parameters: str
    compute: str
    gradients: str
    reduction: str | None
    master: str | None
    optimizer: str
    statistics: str


def policy(dtype: str, precision: Any) -> Policy:
    """The policy of a case dtype under a recipe's precision (duck-typed, see `conformance.Precision`).

    A float64 case is all float64, whatever the precision says; it has a master copy where the precision has one.
    Raises ValueError for a dtype without rules.
    """
    declared = _declared(dtype, precision)
    for name in (dtype, *vars(declared).values()):
        if name is not None and name not in _BITS:
            raise ValueError(f"No precision rules for dtype '{name}': use one of {', '.join(_BITS)}.")
    if dtype != "float64":
        return declared
    everything = {field: None if name is None else "float64" for field, name in vars(declared).items()}
    return Policy(**everything | {"reduction": None})  # type: ignore[arg-type] # what is not optional is never None


def _declared(dtype: str, precision: Any) -> Policy:
    """What the precision says, filled up with the dtype of the case and float32."""
    return Policy(
        parameters=precision.parameters or "float32",
        compute=precision.compute or dtype,
        gradients=precision.gradients or "float32",
        reduction=precision.reduction,
        master=precision.master,
        optimizer="float32",
        statistics=max("float32", precision.statistics or "float32", key=lambda name: _BITS.get(name, 0)),
    )
