"""A timeline: what every rank of an implementation plans to do at which time, to be drawn in the report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One piece of work, from `start` to `end` in the unit of its timeline.

    kind    forward, backward or weights: what its colour says
    label   a few characters that fit in it
    """

    start: float
    end: float
    kind: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Lane:
    """The work of one rank, or of all that do the same; between its bars it is idle."""

    name: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """A title, the unit of time in words, and a lane for each rank."""

    title: str
    unit: str
    lanes: tuple[Lane, ...]
