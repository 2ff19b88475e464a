"""Arithmetic that a traced program does in fewer bits than its precision policy, or a float64 case, asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

REDUCTION, GRADIENTS, STATISTICS, COMPUTATION = "reduction", "gradients", "statistics", "computation"
BITS = {"float8_e4m3fn": 8, "float8_e5m2": 8, "bfloat16": 16, "float16": 16, "float32": 32, "float64": 64}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation as it stands in the program.

    role       what the policy calls it: a `reduction` of gradients over devices, `gradients` (their sum over slices,
               and how they are kept between two sums), or `statistics`; `computation` is whatever rounds in float64
    tensor     the observation that it made, `gradients/<name>` or `loss`; empty for statistics and computation
    operation  as the framework calls it
    axes       the mesh axes that it sums over
    place      the line of the user's program, `file:line`; empty where it is not known
    """

    role: str
    tensor: str
    operation: str
    dtype: str
    axes: tuple[str, ...] = ()
    place: str = ""


def is_narrow(dtype: str) -> bool:
    """Fewer than 32 bits; a dtype that is not floating point is not narrow."""
    return BITS.get(dtype, 32) < 32


def distinct(operations: list[Operation]) -> tuple[Operation, ...]:
    """One of each kind, the first that was met, wherever the others stand."""
    met: dict[tuple[Any, ...], Operation] = {}
    for operation in operations:
        met.setdefault(
            (operation.role, operation.tensor, operation.operation, operation.dtype, operation.axes), operation
        )
    return tuple(met.values())
