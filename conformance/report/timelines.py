"""Timelines as drawings: one lane per rank, idle time visible as what lies bare between the bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conformance.records.records import BarRecord, CaseRecord, TimelineRecord

WIDTH, LANE, GAP, LEFT, AXIS = 900, 24, 6, 56, 26  # of the drawing, in its own units
NARROWEST = 14  # a bar that is narrower has no label


@dataclass(frozen=True, kw_only=True)
class DrawnBar:
    x: float
    width: float
    kind: str
    label: str
    shows_label: bool
    tip: str


@dataclass(frozen=True, kw_only=True)
class DrawnLane:
    name: str
    y: float
    bars: tuple[DrawnBar, ...]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One timeline, and how many cases have it."""

    title: str
    unit: str
    idle: float
    cases: int
    lanes: tuple[DrawnLane, ...]
    ticks: tuple[tuple[float, str], ...]

    width = WIDTH
    left = LEFT
    lane = LANE

    @property
    def base(self) -> int:
        return len(self.lanes) * (LANE + GAP)

    @property
    def height(self) -> int:
        return self.base + AXIS


def drawings(records: Sequence[CaseRecord]) -> list[Drawing]:
    """Every timeline of the records once, in the order of their titles."""
    counts: dict[TimelineRecord, int] = {}
    for record in records:
        if record.timeline is not None:
            counts[record.timeline] = counts.get(record.timeline, 0) + 1
    return [_drawn(timeline, counts[timeline]) for timeline in sorted(counts, key=lambda timeline: timeline.title)]


def _drawn(timeline: TimelineRecord, cases: int) -> Drawing:
    span = max((bar.end for lane in timeline.lanes for bar in lane.bars), default=1.0)
    scale = (WIDTH - LEFT) / span
    lanes = tuple(
        DrawnLane(name=lane.name, y=number * (LANE + GAP), bars=tuple(_bar(bar, scale) for bar in lane.bars))
        for number, lane in enumerate(timeline.lanes)
    )
    ticks = tuple((LEFT + part / 4 * span * scale, f"{part / 4 * span:.4g}") for part in range(5))
    busy = sum(bar.end - bar.start for lane in timeline.lanes for bar in lane.bars)
    idle = 1 - busy / (span * max(len(timeline.lanes), 1))
    return Drawing(title=timeline.title, unit=timeline.unit, idle=idle, cases=cases, lanes=lanes, ticks=ticks)


def _bar(bar: BarRecord, scale: float) -> DrawnBar:
    width = (bar.end - bar.start) * scale
    return DrawnBar(
        x=LEFT + bar.start * scale,
        width=width,
        kind=bar.kind,
        label=bar.label,
        shows_label=width >= NARROWEST,
        tip=f"{bar.kind} {bar.label}: {bar.start:g} to {bar.end:g}",
    )
