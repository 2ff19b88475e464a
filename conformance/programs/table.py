"""What came out, counted: by framework and dtype, with every false alarm and every planted error that was missed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conformance.programs.judged import Judged
from conformance.programs.program import FRAMEWORKS, PLANTED
from conformance.records.formatting import number, share

DTYPES = ("float64", "float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class Count:
    """Programs of one framework and dtype. Ratios are error / bound of a program's worst tensor.

    `smallest` is that of the faintest planted error; without planted errors it is None.
    """

    framework: str
    dtype: str
    programs: int
    false_alarms: int
    median: float
    largest: float
    planted: int
    caught: int
    smallest: float | None


def counts(found: Sequence[Judged]) -> list[Count]:
    """In the order of frameworks and dtypes; those without a program are left out."""
    groups = [
        [one for one in found if (one.program.framework, one.program.dtype) == (framework, dtype)]
        for framework in FRAMEWORKS
        for dtype in DTYPES
    ]
    return [_count(group) for group in groups if group]


def _count(group: Sequence[Judged]) -> Count:
    right, planted = [one for one in group if not one.planted], [one for one in group if one.planted]
    ratios = [one.ratio for one in right]
    return Count(
        framework=group[0].program.framework,
        dtype=group[0].program.dtype,
        programs=len(right),
        false_alarms=sum(not one.passed for one in right),
        median=float(np.median(ratios)),
        largest=max(ratios),
        planted=len(planted),
        caught=sum(one.rightly for one in planted),
        smallest=min((one.ratio for one in planted), default=None),
    )


def wrong(found: Sequence[Judged]) -> list[Judged]:
    """Right programs that did not pass, and planted errors that were not caught."""
    return [one for one in found if not one.rightly]


def content(found: Sequence[Judged]) -> dict[str, Any]:
    """As JSON. A program is drawn again from its seed and framework."""
    named = [
        {"planted": one.planted, "said": one.said, "ratio": one.ratio} | asdict(one.program) for one in wrong(found)
    ]
    return {"relative_error": PLANTED, "counts": [asdict(one) for one in counts(found)], "wrong": named}


def page(found: Sequence[Judged]) -> str:
    table, misjudged = counts(found), wrong(found)
    programs, planted = sum(one.programs for one in table), sum(one.planted for one in table)
    alarms, caught = sum(one.false_alarms for one in table), sum(one.caught for one in table)
    lines = [
        "# Right programs drawn at random",
        "",
        f"{programs:,} right programs through the checks of `conformance.check`: {alarms} false alarms.",
        f"With a relative error of {PLANTED:g} in one gradient of those in float64: {_caught(caught, planted)} caught.",
        "",
        "Sums, means, norms, softmax, products and scans of 2 to 10,000 terms, over meshes of one and two axes; each",
        "device adds up its own terms in one of four orders. Ratios are error / bound of the worst tensor: a program",
        "fails beyond 1.",
        "",
        "| framework | dtype | programs | false alarms | median | largest | planted | caught | faintest |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *map(_row, table),
        "",
        "By kind, all dtypes together: largest error / bound of a right program.",
        "",
        "| kind | 2 to 99 terms | 100 to 999 | 1,000 to 10,000 |",
        "| --- | ---: | ---: | ---: |",
        *_by_kind(found),
    ]
    if misjudged:
        lines += ["", "Judged wrongly:", ""]
        lines += [f"* {one.program}{', planted' if one.planted else ''}: {one.said}" for one in misjudged]
    return "\n".join(lines) + "\n"


def _caught(caught: int, planted: int) -> str:
    return f"{caught:,} of {planted:,} ({share(caught / planted)})" if planted else "none of none"


def _row(one: Count) -> str:
    planted = f"{one.planted} | {one.caught} | {number(one.smallest)}" if one.smallest is not None else " | | "
    return (
        f"| {one.framework} | {one.dtype} | {one.programs} | {one.false_alarms} | {one.median:.2f} | {one.largest:.2f} "
        f"| {planted} |"
    )


def _by_kind(found: Sequence[Judged]) -> list[str]:
    right = [one for one in found if not one.planted]
    rows = []
    for kind in sorted({one.program.kind for one in right}):
        worst = {
            digits: max((one.ratio for one in right if one.program.kind == kind and _size(one) == digits), default=None)
            for digits in (2, 3, 4)
        }
        rows.append(f"| {kind} | {' | '.join('' if most is None else f'{most:.2f}' for most in worst.values())} |")
    return rows


def _size(one: Judged) -> int:
    """2, 3 or 4: the class of its number of terms."""
    return min(max(int(math.log10(one.program.terms)) + 1, 2), 4)


def write(found: Sequence[Judged], folder: Path) -> None:
    """programs.json, programs.md and programs.svg."""
    from conformance.programs.picture import draw

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "programs.json").write_text(json.dumps(content(found), indent=2, sort_keys=True) + "\n")
    (folder / "programs.md").write_text(page(found))
    draw(found, folder / "programs.svg")
