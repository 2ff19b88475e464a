"""A site: one collective of a program, as a place where the program can be changed."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.contract.implementation import Phase
from conformance.trace.operators import SiteKind


@dataclass(frozen=True, kw_only=True)
class Site:
    """One collective of a traced step.

    number     its place in program order (torch: order of issue, the same on all ranks)
    operators  the mutation operators that apply to it
    reduction  sum, mean, max or min where values are combined
    """

    number: int
    kind: SiteKind
    axes: tuple[str, ...]
    phase: Phase
    shape: tuple[int, ...]
    operators: tuple[str, ...]
    reduction: str | None = None
