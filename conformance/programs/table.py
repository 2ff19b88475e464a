"""What came out, counted: by framework and dtype, with every false alarm and every planted error that was missed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conformance.cases.case import DTYPES, Dtype
from conformance.contract.implementation import FRAMEWORKS, Framework
from conformance.programs.judged import Judged
from conformance.programs.program import PLANTED
from conformance.records.formatting import number, share


@dataclass(frozen=True, kw_only=True)
class Count:
    """Programs of one framework and dtype. Ratios are error / bound of a program's worst tensor.

    `smallest` is that of the faintest planted error; without planted errors it is None.
    """

    framework: Framework
    dtype: Dtype
    programs: int
    false_alarms: int
    median: float
    largest: float
    planted: int
    caught: int
    smallest: float | None


def counts(results: Sequence[Judged]) -> list[Count]:
    """In the order of frameworks and dtypes; those without a program are left out."""
    groups = [
        [result for result in results if (result.program.framework, result.program.dtype) == (framework, dtype)]
        for framework in FRAMEWORKS
        for dtype in DTYPES
    ]
    return [_count(group) for group in groups if group]


def _count(group: Sequence[Judged]) -> Count:
    right, planted = [result for result in group if not result.planted], [result for result in group if result.planted]
    ratios = [result.ratio for result in right]
    return Count(
        framework=group[0].program.framework,
        dtype=group[0].program.dtype,
        programs=len(right),
        false_alarms=sum(not result.passed for result in right),
        median=float(np.median(ratios)),
        largest=max(ratios),
        planted=len(planted),
        caught=sum(result.rightly for result in planted),
        smallest=min((result.ratio for result in planted), default=None),
    )


def wrong(results: Sequence[Judged]) -> list[Judged]:
    """Right programs that did not pass, and planted errors that were not caught."""
    return [result for result in results if not result.rightly]


def content(results: Sequence[Judged]) -> dict[str, Any]:
    """As JSON. A program is drawn again from its seed and framework."""
    named = [
        {"planted": result.planted, "said": result.said, "ratio": result.ratio} | asdict(result.program)
        for result in wrong(results)
    ]
    return {"relative_error": PLANTED, "counts": [asdict(count) for count in counts(results)], "wrong": named}


def page(results: Sequence[Judged]) -> str:
    table = counts(results)
    programs, planted = sum(count.programs for count in table), sum(count.planted for count in table)
    alarms, caught = sum(count.false_alarms for count in table), sum(count.caught for count in table)
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
        *_by_kind(results),
        *_misjudged(results),
    ]
    return "\n".join(lines) + "\n"


def _caught(caught: int, planted: int) -> str:
    return f"{caught:,} of {planted:,} ({share(caught / planted)})" if planted else "none of none"


def _row(count: Count) -> str:
    planted = f"{count.planted} | {count.caught} | {number(count.smallest)}" if count.smallest is not None else " | | "
    return (
        f"| {count.framework} | {count.dtype} | {count.programs} | {count.false_alarms} "
        f"| {count.median:.2f} | {count.largest:.2f} | {planted} |"
    )


def _by_kind(results: Sequence[Judged]) -> list[str]:
    right = [result for result in results if not result.planted]
    rows = []
    for kind in sorted({result.program.kind for result in right}):
        worst = {
            digits: max(
                (result.ratio for result in right if result.program.kind == kind and _size(result) == digits),
                default=None,
            )
            for digits in (2, 3, 4)
        }
        rows.append(f"| {kind} | {' | '.join('' if most is None else f'{most:.2f}' for most in worst.values())} |")
    return rows


def _misjudged(results: Sequence[Judged]) -> list[str]:
    named = [f"* {result.program}{', planted' if result.planted else ''}: {result.said}" for result in wrong(results)]
    return ["", "Judged wrongly:", "", *named] if named else []


def _size(result: Judged) -> int:
    """2, 3 or 4: the class of its number of terms."""
    return min(max(int(math.log10(result.program.terms)) + 1, 2), 4)


def write(results: Sequence[Judged], folder: Path) -> None:
    """programs.json, programs.md and programs.svg."""
    from conformance.programs.picture import draw

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "programs.json").write_text(json.dumps(content(results), indent=2, sort_keys=True) + "\n")
    (folder / "programs.md").write_text(page(results))
    draw(results, folder / "programs.svg")
