"""Alterations: changes that an implementation can make to a plan of its own, to measure what the suite notices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Alteration:
    """A change that an implementation can make to a plan of its own, such as the schedule of a pipeline.

    what      the change in one sentence
    axis      the mesh axis that it is on
    causes    words of which a right diagnosis has one; empty: nothing is asked
    seen_by   verdicts that count as killed besides `fail`: an implementation may refuse to run a broken plan
    neutral   why the change makes no difference to any result; None where it should
    """

    operator: str
    site: int
    what: str
    axis: str
    causes: tuple[str, ...] = ()
    seen_by: tuple[str, ...] = ()
    neutral: str | None = None
