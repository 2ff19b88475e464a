"""The budget: what a step may communicate, entry by entry, each with its formula and where that comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conformance.contract.implementation import Phase


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """Collectives of one kind over one set of axes, for one tensor, in one step.

    kind      as in Traffic
    axes      mesh axes in mesh order; the sizes that are 1 are left out
    tensor    the parameter that is gathered or whose gradient is summed; empty for activations
    elements  of the operand or of the result on one device, whichever is larger, in one call
    calls     in one step
    formula   the elements and calls in words
    source    paper and section, or the rule that it follows from
    phase     as in Traffic; None: whichever
    """

    kind: str
    axes: tuple[str, ...]
    tensor: str
    dtype: str
    elements: int
    calls: int
    formula: str
    source: str
    phase: Phase | None = None
