"""Isolation: a case that failed is run once more, alone in fresh processes, to see whether earlier cases matter.

The processes of a case have run others before it. What those leave behind there (process-wide state, caches, settings
of the framework) may change what the case does. Then no signature of an error says why it failed, and its own command
shows nothing: the cases that it takes are looked for, first the one before it, then the first of its processes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from conformance.cases.case import Case
from conformance.records.reproduce import anywhere
from conformance.records.results import CaseResult, Cause

SPOKEN = {"pass": "passes", "fail": "fails", "error": "ends in an error", "crash": "crashes", "hang": "hangs"}
SPOKEN |= {"unsupported": "is refused as it must be"}
FAILED = ("fail", "error", "crash", "hang")
DEPENDS = "depends on earlier cases"
SOMETIMES = "does not fail every time"
SHOWN = 0.85  # how sure a run is
MOST_CASES = 5  # of a run that are run again alone
MOST_BEFORE = 8  # cases that are run again together before one
HANG_SECONDS = 30.0  # after which a case that hung counts as hanging again
Afresh = Callable[[Sequence[Case], float | None], CaseResult]


class Isolation:
    """Runs cases of one run again. `afresh` runs some, one after the other in fresh processes -> what the last did."""

    def __init__(self, afresh: Afresh) -> None:
        self._afresh, self._left, self._lock = afresh, MOST_CASES, threading.Lock()

    def examined(self, result: CaseResult, before: Sequence[Case]) -> CaseResult:
        """A result, with what came out alone; `before` are the cases that its processes had run, in their order."""
        if result.as_expected or result.verdict not in FAILED or not before:
            return result
        if not self._may_go_on():
            words = f"It was not run again alone: {MOST_CASES} failed cases of this run were already."
            return replace(result, alone=words)
        try:
            return self._run_again(result, [case for case in before if "~" not in case.contract])
        except Exception as failure:  # what cannot be shown takes nothing from what was found
            return replace(result, alone=f"It could not be run again alone: {failure}")

    def _may_go_on(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _run_again(self, result: CaseResult, before: Sequence[Case]) -> CaseResult:
        case, seconds = result.case, HANG_SECONDS if result.verdict == "hang" else None
        again = self._afresh([case], seconds)
        if not again.as_expected:
            also = "too" if again.verdict == result.verdict else "instead"
            return replace(result, alone=f"Alone in fresh processes it {_spoken(again, seconds)} {also}.")
        passes = f"Alone in fresh processes it {SPOKEN[again.verdict]}"
        for earlier in _sequences(before):
            there = self._afresh([*earlier, case], seconds)
            if not there.as_expected:
                words = f"{passes}: it {DEPENDS}, and {_spoken(there, seconds)} again after {_named(earlier)}."
                return _depending(result, earlier, words)
        if len(before) > MOST_BEFORE:
            fewer = "neither the first nor the last of them is enough, and no more were tried"
            return _depending(result, before, f"{passes}: it failed after {len(before)} other cases; {fewer}.")
        words = f"{passes}, and after the cases before it as well: it {SOMETIMES}."
        return replace(_diagnosed(result, SOMETIMES), alone=words)


def _sequences(before: Sequence[Case]) -> list[Sequence[Case]]:
    """What is tried in turn: the last, the first, and all where they are few."""
    sequences = [before[-1:], before[:1], before if len(before) <= MOST_BEFORE else ()]
    return [sequence for number, sequence in enumerate(sequences) if sequence and sequence not in sequences[:number]]


def _depending(result: CaseResult, earlier: Sequence[Case], words: str) -> CaseResult:
    return replace(_diagnosed(result, DEPENDS), alone=words, after=tuple(anywhere(case).id for case in earlier))


def _diagnosed(result: CaseResult, cause: str) -> CaseResult:
    """In place of signatures, which explain a program that is wrong by itself."""
    shown = (Cause(cause=cause, axis=None, confidence=SHOWN),)
    checks = (replace(check, diagnosis=shown) if check.verdict == "fail" else check for check in result.checks)
    return replace(result, checks=tuple(checks))


def _spoken(again: CaseResult, seconds: float | None) -> str:
    limit = f" (for {seconds:g} seconds)" if again.verdict == "hang" and seconds is not None else ""
    return f"{SPOKEN[again.verdict]}{limit}"


def _named(earlier: Sequence[Case]) -> str:
    return earlier[0].id if len(earlier) == 1 else f"all {len(earlier)} cases before it"
