"""Figures: how numbers are written for people, the same in the terminal and in every report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

MOST_NAMED = 4  # ranks; of more, runs are drawn together


def ratio(value: float | None) -> str:
    """error / bound in three or four characters: 0.31, 12, 4e5."""
    if value is None:
        return ""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf"
    if value == 0:
        return "0"
    if value < 0.01:
        return "<.01"
    if value < 10:
        return f"{value:.2f}"
    return f"{value:.0f}" if value < 1000 else _power(value)


def _power(value: float) -> str:
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def number(value: float) -> str:
    """An error or a bound: three significant digits."""
    return f"{value:.3g}"


def seconds(value: float) -> str:
    """14.2 us, 3.1 ms, 0.42 s, 12.3 s, 3 min 20 s."""
    if 0 < value < 0.01:
        return f"{1e3 * value:.1f} ms" if value >= 1e-3 else f"{1e6 * value:.1f} us"
    if value < 10:
        return f"{value:.2f} s"
    if value < 120:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def binary_bytes(size: int) -> str:
    """512 B, 2.0 MiB, 15.3 GiB, 196 GiB: powers of 1024."""
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:,.{0 if value >= 100 or units[0] == 'B' else 1}f} {units[0]}"


def share(value: float | None) -> str:
    """A share as a percentage; empty where it is not known."""
    return "" if value is None else f"{100 * value:.1f} %"


def count(number_of: int, word: str) -> str:
    """1 case, 2 cases."""
    return f"{number_of:,} {word}{'' if number_of == 1 else 's'}"


def ranks(numbers: Sequence[int]) -> str:
    """rank 3; ranks 1, 2 and 3; ranks 0-5 and 7."""
    *others, last = map(str, sorted(numbers)) if len(numbers) <= MOST_NAMED else spans(numbers).split(", ")
    return f"rank{'s' if len(numbers) > 1 else ''} {', '.join(others)}{' and ' if others else ''}{last}"


def spans(numbers: Iterable[int]) -> str:
    """0-3, 5: whole numbers with runs of three and more drawn together."""
    runs: list[list[int]] = []
    for value in sorted(numbers):
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    spoken = (f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
    return ", ".join(spoken)


def cause(words: str, axis: str | None, confidence: float, axis_confidence: float | None, spec: str = ".0%") -> str:
    """`likely: summed twice on axis data (confidence 90%), the axis 95%`; one figure where both are the same."""
    where = f" on axis {axis}" if axis else ""
    apart = axis is not None and axis_confidence not in (None, confidence)
    return f"likely: {words}{where} (confidence {confidence:{spec}})" + (
        f", the axis {axis_confidence:{spec}}" if apart else ""
    )
