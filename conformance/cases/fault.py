"""Faults: a conforming implementation with one known bug planted in it."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.cases.case import Dtype

NO_AXIS = "no axis"  # the fault shows on one device too


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One real bug, planted by a mixin of a few lines put in front of a conforming class.

    id            name of the mechanism, for example `row-parallel-bias-added-per-rank`
    summary       what goes wrong, one sentence
    sources       public reports of it; empty when it is common knowledge in the field
    bites         the condition under which it shows
    planted       implementation name -> 'module:Class' of the mixin that plants it there
    contract      the standing contract on which it must be seen
    meshes        the meshes on which it must be seen (each one)
    dtype         the dtype in which it must be seen
    axis          the mesh axis that the diagnosis must name; NO_AXIS where it must name none; None: not asked
    causes        the causes that count as the right diagnosis
    seen_by       the checks of which at least one must fail
    control       a negative control: it must NOT be flagged
    """

    id: str
    summary: str
    bites: str
    planted: dict[str, str]
    contract: str
    meshes: tuple[str, ...]
    axis: str | None
    causes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    dtype: Dtype = "float64"
    seen_by: tuple[str, ...] = ("logic",)
    control: bool = False
