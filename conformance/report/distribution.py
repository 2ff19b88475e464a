"""Distribution: how near to their bounds the measured errors lie, per dtype, as a histogram over error/bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from conformance.cases.case import DTYPES
from conformance.records.records import CaseRecord

LOWEST, HIGHEST = -3, 3  # decades of error/bound; what lies outside is counted in the outermost bins
PER_DECADE = 8
BINS = (HIGHEST - LOWEST) * PER_DECADE
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 360, 170, 8, 26, 30  # of the drawing, in its own units


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bin: where it is drawn, how many comparisons fell into it, and whether it lies beyond the bound."""

    x: float
    y: float
    width: float
    height: float
    count: int
    low: float
    high: float
    beyond: bool


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """All error/bound figures of one dtype. Bars have the height of the square root of their count: one still shows."""

    dtype: str
    count: int
    median: float
    largest: float
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    bound_x: float

    width = WIDTH
    height = HEIGHT
    top = TOP
    base = HEIGHT - BOTTOM


def histograms(records: Sequence[CaseRecord]) -> list[Histogram]:
    """One histogram per dtype: each check's worst error/bound of each group of observables."""
    by_dtype: dict[str, list[float]] = {}
    for record in records:
        for check in record.checks:
            by_dtype.setdefault(record.dtype, []).extend(check.ratios.values())
    return [_histogram(dtype, sorted(by_dtype[dtype], key=_order)) for dtype in DTYPES if by_dtype.get(dtype)]


def _order(ratio: float) -> float:
    return math.inf if math.isnan(ratio) else ratio


def _histogram(dtype: str, ratios: list[float]) -> Histogram:
    counts = [0] * BINS
    for ratio in ratios:
        counts[_bin(ratio)] += 1
    tallest = math.sqrt(max(counts))
    return Histogram(
        dtype=dtype,
        count=len(ratios),
        median=ratios[len(ratios) // 2],
        largest=ratios[-1],
        bars=tuple(_bar(i, count, tallest) for i, count in enumerate(counts) if count),
        ticks=tuple((_x((decade - LOWEST) * PER_DECADE), _tick(decade)) for decade in range(LOWEST, HIGHEST + 1)),
        bound_x=_x(-LOWEST * PER_DECADE),
    )


def _tick(decade: int) -> str:
    return {LOWEST: "0", HIGHEST: "inf"}.get(decade, f"{10.0**decade:g}")


def _bin(ratio: float) -> int:
    """Bins are half open, (low, high]: an error equal to its bound is within it."""
    if ratio <= 0:
        return 0
    if not math.isfinite(ratio):
        return BINS - 1
    return min(max(math.ceil((math.log10(ratio) - LOWEST) * PER_DECADE - 1e-9) - 1, 0), BINS - 1)


def _bar(position: int, count: int, tallest: float) -> Bar:
    height = (HEIGHT - TOP - BOTTOM) * math.sqrt(count) / tallest
    low, high = (10 ** (LOWEST + (position + i) / PER_DECADE) for i in (0, 1))
    return Bar(x=_x(position) + 0.5, y=HEIGHT - BOTTOM - height, width=_x(1) - _x(0) - 1, height=height, count=count,
               low=0.0 if position == 0 else low, high=math.inf if position == BINS - 1 else high,
               beyond=position >= -LOWEST * PER_DECADE)  # fmt: skip


def _x(position: float) -> float:
    return LEFT + position * (WIDTH - 2 * LEFT) / BINS
