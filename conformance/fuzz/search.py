"""The search: draw and judge until time is over or something fails, then make what fails as small as it gets.

Drawing and shrinking are hypothesis's (MacIver et al., Hypothesis: A new approach to property-based testing, 2019).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample

from conformance.cases.case import Case
from conformance.fuzz.drawn import cases
from conformance.fuzz.ground import Ground
from conformance.records.results import CaseResult
from conformance.runner.judge import lies_in_reference

NOTHING_SHOWN = "nothing shown"  # the verdict on a drawn contract whose reference cannot move something
FINE = ("pass", "unsupported", NOTHING_SHOWN)
ROUND = 60  # cases that are drawn at most before a new seed
SHRINK_SECONDS = 240.0

Judge = Callable[[Case], CaseResult]


@dataclass(frozen=True, kw_only=True)
class Fuzzed:
    """What came of it: verdicts by number, and the smallest case that fails, if one does."""

    verdicts: Mapping[str, int]
    seconds: float
    failure: CaseResult | None = None

    @property
    def judged(self) -> int:
        return sum(self.verdicts.values())


def search(
    grounds: Sequence[Ground], judge: Judge, *, seconds: float, seed: int, shrink_seconds: float = SHRINK_SECONDS
) -> Fuzzed:
    """Judge drawn cases for so long; what one failure takes to shrink comes on top."""
    started, rounds = time.monotonic(), count(seed)
    tried = _Tried(judge=judge, until=started + seconds, shrink_seconds=shrink_seconds)
    failing = None
    while failing is None and tried.has_time():
        failing = _found(grounds, tried, next(rounds))
    return Fuzzed(
        verdicts=dict(tried.verdicts),
        seconds=time.monotonic() - started,
        failure=None if failing is None else tried.failures[failing.id],
    )


def _found(grounds: Sequence[Ground], tried: _Tried, seed: int) -> Case | None:
    """A small case that fails; None if none was drawn."""
    how = settings(
        max_examples=ROUND,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    try:
        return find(cases(grounds), tried.fails, settings=how, random=Random(seed))
    except NoSuchExample:
        return None


@dataclass(kw_only=True)
class _Tried:
    """Cases that were judged. Each is judged once; when time is over no other is."""

    judge: Judge
    until: float
    shrink_seconds: float
    verdicts: Counter[str] = field(default_factory=Counter)
    failures: dict[str, CaseResult] = field(default_factory=dict)
    fine: set[str] = field(default_factory=set)

    def has_time(self) -> bool:
        return time.monotonic() < self.until

    def fails(self, case: Case) -> bool:
        if case.id in self.failures or case.id in self.fine or not self.has_time():
            return case.id in self.failures
        result = self.judge(case)
        verdict = NOTHING_SHOWN if lies_in_reference(result.checks) else result.verdict
        self.verdicts[verdict] += 1
        if verdict in FINE:
            self.fine.add(case.id)
            return False
        if not self.failures:
            self.until = time.monotonic() + self.shrink_seconds
        self.failures[case.id] = result
        return True
