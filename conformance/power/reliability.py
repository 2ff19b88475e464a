"""Reliability: how often what the diagnosis says is right, by how surely it says it.

Every row of a kill table whose truth is known is counted. A named axis is right if the bug is on it; a cause, if it has
a word of the right ones. A place says where the error shows and not why: it is no cause, and only its axis counts.
Whatever is said of a control is wrong. Confidence is a frequency: of all that is said at SURE or more, ENOUGH is right.

`python -m conformance.power.reliability results/power` writes reliability.md and reliability.svg from power.json.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from conformance.cases.fault import NO_AXIS
from conformance.power.pages import markdown
from conformance.power.picture import draw
from conformance.power.table import KINDS, RIGHT, UNSAID, PowerRow, PowerTable
from conformance.records.formatting import count

SURE, ENOUGH = 0.8, 0.95
BANDS = (("0.8 and more", 0.8, 2.0), ("0.5 to 0.8", 0.5, 0.8), ("below 0.5", 0.0, 0.5))
TENTHS = tuple((f"{tenth / 10}", tenth / 10, (tenth + 1) / 10 if tenth < 9 else 2.0) for tenth in range(10))
ABOUT = {"axis": "axes", "cause": "causes"}
QUOTED, LISTED = re.compile(r"'[^']*'"), re.compile(r"\[[^]]*\]")
NUMBER = re.compile(r"(?<![\w.])-?\d+(\.\d+)?(e[-+]?\d+)?(?![\w/])")  # not of bfloat16, nor of 1/size-of-axis


@dataclass(frozen=True, kw_only=True)
class Statement:
    """An axis or a cause that the diagnosis of one row names, of which it is known whether it is right.

    about     `axis` or `cause`
    planted   the fault, the operator of the mutation, or `control`
    words     the axis, or the cause without its names and numbers
    """

    about: str
    kind: str
    planted: str
    words: str
    confidence: float
    right: bool


@dataclass(frozen=True, kw_only=True)
class Share:
    """How many statements there are, how surely they are said on average, and how many are right."""

    said: int
    right: int
    confidence: float

    @classmethod
    def of(cls, statements: Iterable[Statement]) -> Share:
        counted = list(statements)
        mean = sum(statement.confidence for statement in counted) / len(counted) if counted else 0.0
        return cls(said=len(counted), right=sum(statement.right for statement in counted), confidence=mean)

    @property
    def share(self) -> float:
        return self.right / self.said if self.said else 0.0


def statements(rows: Iterable[PowerRow]) -> list[Statement]:
    """What is said with a confidence, where the truth is known."""
    return [statement for row in rows for statement in (_of_axis(row), _of_cause(row)) if statement is not None]


def _of_axis(row: PowerRow) -> Statement | None:
    right = False if row.kind == "control" else row.right_axis
    if row.axis is None or row.axis_confidence is None or right is None:
        return None
    return _statement("axis", row, row.axis, row.axis_confidence, right)


def _of_cause(row: PowerRow) -> Statement | None:
    known = row.kind == "control" or row.judged_cause is not None
    if row.cause is None or row.confidence is None or not known or (row.place and row.kind != "control"):
        return None
    return _statement("cause", row, general(row.cause), row.confidence, row.judged_cause == RIGHT)


def _statement(about: str, row: PowerRow, words: str, confidence: float, right: bool) -> Statement:
    return Statement(about=about, kind=row.kind, planted=_planted(row), words=words, confidence=confidence, right=right)


def _planted(row: PowerRow) -> str:
    return "control" if row.kind == "control" else row.id.partition("@")[0]


def general(cause: str) -> str:
    """A cause without the names, lists and numbers of its case; `1/size-of-axis` stays."""
    return NUMBER.sub("n", LISTED.sub("[...]", QUOTED.sub("'...'", cause)))


def bands(said: Sequence[Statement], edges: Sequence[tuple[str, float, float]] = BANDS) -> dict[str, Share]:
    """The share that is right in each band of confidence."""
    return {
        name: Share.of(statement for statement in said if low <= statement.confidence < high)
        for name, low, high in edges
    }


def unreliable(table: PowerTable) -> list[str]:
    """A sentence for the axes, and one for the causes, if of those said at SURE or more too few are right."""
    sentences = []
    for about, several in ABOUT.items():
        sure = [
            statement
            for statement in statements(table.rows)
            if statement.about == about and statement.confidence >= SURE
        ]
        share = Share.of(sure)
        if share.right < ENOUGH * share.said:
            wrong = Counter((statement.words, statement.planted) for statement in sure if not statement.right)
            [((words, planted), times)] = wrong.most_common(1)
            sentences.append(
                f"Of {share.said} {several} that are said at {SURE} or more, {share.right} are right "
                f"({share.share:.1%}), and {ENOUGH:.0%} should be; most often wrong: '{words}' for {planted}, "
                f"{count(times, 'time')}."
            )
    return sentences


# What is written.


def write(rows: Sequence[PowerRow], directory: Path) -> None:
    """reliability.md and reliability.svg."""
    said = statements(rows)
    (directory / "reliability.md").write_text("\n".join(_page(rows, said)) + "\n", encoding="utf-8")
    panels = {}
    for about, several in ABOUT.items():
        shares = bands([statement for statement in said if statement.about == about], TENTHS).values()
        panels[several] = [(band.confidence, band.share, band.said) for band in shares if band.said]
    draw(panels, directory / "reliability.svg", sure=SURE, enough=ENOUGH)


def _page(rows: Sequence[PowerRow], said: Sequence[Statement]) -> Iterator[str]:
    yield from ("# How often what the diagnosis says is right", "")
    yield "Confidence is meant as a frequency. Here it is measured over all planted faults and mutations whose"
    yield "axis or cause is known, and over all controls, of which whatever is said is wrong. What says where an error"
    yield "shows, and not why, is no cause; its axis counts."
    yield from ("", "![share right by confidence](reliability.svg)", "")
    yield from markdown(("about", "kind", "said at", "said", "right", "share"), _shares(said))
    yield from ("", *_sentences(rows), "", "## Causes", "")
    yield from markdown(("cause", "says", "said", "right", "mean confidence", "wrong for"), _causes(rows))
    yield from ("", "Made by `python -m conformance.power.reliability`.")


def _shares(said: Sequence[Statement]) -> Iterator[Sequence[object]]:
    for about in ABOUT:
        for kind in ("all", *KINDS):
            own = [statement for statement in said if statement.about == about and kind in ("all", statement.kind)]
            for name, share in bands(own).items():
                if share.said:
                    yield about, kind, name, share.said, share.right, f"{share.share:.1%}"


def _sentences(rows: Sequence[PowerRow]) -> Iterator[str]:
    none = [row for row in rows if row.axes == (NO_AXIS,) and row.right_axis is not None]
    if none:
        yield f"Where no axis must be named, none is in {sum(row.axis is None for row in none):,} of {len(none):,}."
    new = [row for row in rows if row.cause is None or row.confidence is not None]
    asked = [row for row in new if row.judged_cause is not None]
    if asked:
        unsaid = sum(row.cause is None or row.place for row in asked)
        yield f"Of {count(len(asked), 'killed bug')} whose cause is known, {unsaid:,} get no cause, or only a place."
    yield from _seconds(rows)
    if len(new) < len(rows):
        yield f"Left out, since an older table had no confidence: {count(len(rows) - len(new), 'row')}."


def _seconds(rows: Sequence[PowerRow]) -> Iterator[str]:
    """What the further runs cost, in seconds and in times of the case alone."""
    added = [(row.diagnosis_seconds, row.seconds) for row in rows if row.diagnosis_seconds and row.seconds]
    if added:
        seconds, times = [more for more, _ in added], [more / alone for more, alone in added]
        yield f"A diagnosis adds {median(seconds):.1f} seconds in the median and {max(seconds):.1f} at most, which is"
        yield f"{median(times):.1f} times the case alone in the median and {max(times):.1f} at most."


def _causes(rows: Iterable[PowerRow]) -> Iterator[Sequence[object]]:
    """Every cause and every place that is said, most often first, with what it is said of wrongly."""
    said: dict[tuple[str, bool], list[PowerRow]] = {}
    for row in rows:
        if row.cause is not None and row.confidence is not None and (row.kind == "control" or row.judged_cause):
            said.setdefault((general(row.cause), row.place), []).append(row)
    for (words, place), own in sorted(said.items(), key=lambda item: (-len(item[1]), item[0])):
        wrong = Counter(_planted(row) for row in own if row.judged_cause not in (RIGHT, UNSAID))
        mean = sum(row.confidence or 0.0 for row in own) / len(own)
        right = sum(row.judged_cause == RIGHT for row in own)
        of = ", ".join(f"{planted} {times}" for planted, times in sorted(wrong.items(), key=lambda i: (-i[1], i[0])))
        yield words, "where" if place else "why", len(own), right, f"{mean:.2f}", of


def main(arguments: Sequence[str]) -> int:
    """The folder of a kill table in; status 1 where what is said surely is not right often enough."""
    if len(arguments) != 1 or not (Path(arguments[0]) / "power.json").exists():
        print("Name the folder in which `shardproof power` has written power.json.", file=sys.stderr)
        return 2
    table = PowerTable.read(Path(arguments[0]))
    write(table.rows, Path(arguments[0]))
    wrong = unreliable(table)
    for sentence in wrong:
        print(sentence)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
