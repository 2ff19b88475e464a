"""Replay: a sample of a package is run again, with the recorded seed and with a fresh one, and held to what it says.

With the recorded seed the yardsticks, which the reference gives, and the numbers of row blocks must be those of the
package; on devices of the same kind the errors too, and which checks were held, and how much they compared. With a
fresh seed the verdict must be the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from conformance.cases.case import Case
from conformance.qualify.package import Contents
from conformance.qualify.rejudge import TOLERANT
from conformance.records.check_record import CheckRecord
from conformance.records.records import CaseRecord
from conformance.records.results import CaseResult

MOST_TIMES = 4.0  # that a yardstick may change: it is the largest of few perturbed runs
MOST_YARDSTICKS = 1.0  # that an error may change on devices of the same kind
FRESH = range(10**6, 2**31)  # seeds that no published set has

Run = Callable[[Sequence[Case]], list[CaseResult]]


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """A case of the sample: what does not agree, in sentences, and how many figures were compared."""

    case: str
    fresh_seed: int
    compared: int
    disagreements: tuple[str, ...] = ()


def replay(contents: Contents, sample: int, devices: str, run: Run, draw: random.Random) -> list[Replayed]:
    """Run a sample of the passing cases again; all of them where there are fewer."""
    passing = [record for record in contents.records if record.verdict == "pass"]
    chosen = draw.sample(passing, min(sample, len(passing)))
    asked = [replace(record.result().case, devices=devices) for record in chosen]
    fresh = [replace(case, seed=draw.choice(FRESH)) for case in asked]
    results = {result.case.id: result for result in run([*asked, *fresh])}
    return [
        _replayed(record, results[again.id], results[other.id], same=devices == contents.run.devices)
        for record, again, other in zip(chosen, asked, fresh, strict=True)
    ]


def _replayed(record: CaseRecord, again: CaseResult, fresh: CaseResult, *, same: bool) -> Replayed:
    made = CaseRecord.of(again, figures=True)
    said = [*_verdicts(record, again, fresh), *_figures(record, made, same)]
    said += _held(record, made) if same and again.verdict == record.verdict else []
    compared = sum(len(check.figures) for check in made.checks)
    return Replayed(
        case=record.case,
        fresh_seed=fresh.case.seed,
        compared=compared,
        disagreements=tuple(said if compared else [*said, "No figure was compared."]),
    )


def _verdicts(record: CaseRecord, again: CaseResult, fresh: CaseResult) -> Iterator[str]:
    for what, result in (("with the recorded seed", again), (f"with seed {fresh.case.seed}", fresh)):
        if result.verdict != record.verdict:
            why = next((check.detail for check in result.checks if check.verdict == "fail"), result.reason)
            yield f"Recorded {record.verdict}, {what} {result.verdict}: {why}"


def _held(record: CaseRecord, again: CaseRecord) -> Iterator[str]:
    """What was declined, and what was counted: both are said in words that no other figure bears out."""
    before, after = ({check.check: check for check in made.checks} for made in (record, again))
    for name in sorted(before.keys() ^ after.keys()):
        yield f"{name} stands in one of the two only."
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name], after[name]
        if (old.verdict, bool(old.not_held)) != (new.verdict, bool(new.not_held)):
            yield f"{name} is {_spoken(new)}, recorded was {_spoken(old)}."
        elif old.compared != new.compared:
            yield f"{name} has {new.compared} comparisons, recorded were {old.compared}."


def _spoken(check: CheckRecord) -> str:
    return f"{check.verdict}, part of it not held" if check.not_held and check.compared else check.verdict


def _figures(record: CaseRecord, again: CaseRecord, same: bool) -> Iterator[str]:
    checks = {check.check: check for check in again.checks}
    for check in record.checks:
        if check.check in TOLERANT and check.check in checks:
            yield from (f"{check.check}: {said}" for said in _of_check(check, checks[check.check], same))


def _of_check(recorded: CheckRecord, again: CheckRecord, same: bool) -> Iterator[str]:
    figures = {_tensor(figure.tensor): figure for figure in again.figures}
    before = {_tensor(figure.tensor): figure for figure in recorded.figures}
    if figures.keys() != before.keys():
        yield f"{len(figures.keys() ^ before.keys())} tensors are compared in one of the two only."
    for tensor in before.keys() & figures.keys():
        old, new = before[tensor], figures[tensor]
        if old.blocks != new.blocks:
            yield f"{tensor} has {new.blocks} row blocks, recorded were {old.blocks}."
        scale = max(old.yardstick, new.yardstick)
        if scale > MOST_TIMES * min(old.yardstick, new.yardstick) and (old.tensor == new.tensor):
            yield f"{tensor} has the yardstick {new.yardstick:.3g}, recorded was {old.yardstick:.3g}."
        elif same and old.tensor == new.tensor and abs(old.error - new.error) > MOST_YARDSTICKS * scale:
            yield f"{tensor} is off by {new.error:.3g}, recorded was {old.error:.3g}."


def _tensor(label: str) -> str:
    return label.partition(" rows ")[0]
