"""Lanes: how many cases run at once, each lane with workers of its own; what a run keeps of them.

All lanes take from one queue. What shares a compiled program stays together, in one lane, and what shares a reference
comes one after the other. Half of the lanes begin with the cases of one framework and half with those of the other;
whoever has no more of his own goes on with what is left.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import psutil

from conformance.cases.case import Case
from conformance.cases.resolve import Target, resolve
from conformance.records.results import CaseResult

POLL_SECONDS = 0.2
LANE_BYTES = 4 * 2**30  # that the processes of one lane may well take
PIECE = 12  # cases that a lane takes at once
Entry = tuple[Case, Target]
Judged = Callable[[Case, Target], CaseResult]


def most() -> int:
    """Lanes that this machine has cores and memory for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(max(1, min(cores, psutil.virtual_memory().total // LANE_BYTES)))


def grouped(cases: Sequence[Case], as_given: bool) -> list[list[Entry]]:
    """Cases that share a reference, those that share a compiled program side by side; large groups first, in pieces."""
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for case in cases:
        target = resolve(case)
        key = (target.framework,) if as_given else (target.framework, case.contract)
        groups.setdefault(key, []).append((case, target))
    if as_given:
        return list(groups.values())
    large_first = sorted((sorted(group, key=_seeded) for group in groups.values()), key=len, reverse=True)
    return [piece for group in large_first for piece in _pieces(group)]


def _pieces(group: Sequence[Entry]) -> Iterator[list[Entry]]:
    """A group cut between programs, so that no lane has all that is left while others have nothing."""
    piece: list[Entry] = []
    for _, entries in groupby(group, key=_program):
        piece += entries
        if len(piece) >= PIECE:
            yield piece
            piece = []
    if piece:
        yield piece


def _program(entry: Entry) -> tuple[Any, ...]:
    """What cases have in common that share a compiled program; every mutant is one of its own."""
    case, _ = entry
    return (case.contract, case.dtype, case.implementation, str(case.mesh), case.fault or "", str(case.mutation or ""))


def _seeded(entry: Entry) -> tuple[Any, ...]:
    return (*_program(entry), entry[0].seed)


class Queue:
    """The cases of a run by framework, in groups that stay together; `take` may be called by any thread."""

    def __init__(self, groups: Iterable[Sequence[Entry]]) -> None:
        self._groups: dict[str, deque[Sequence[Entry]]] = {}
        self._lock = threading.Lock()
        for group in groups:
            self._groups.setdefault(group[0][1].framework, deque()).append(group)
        self.lanes = sum(map(len, self._groups.values()))  # more would have nothing to do

    def take(self, number: int) -> Sequence[Entry]:
        """The next group for the lane of this number, empty when there is none."""
        with self._lock:
            waiting = list(self._groups.values())
            turned = waiting[number % len(waiting) :] + waiting[: number % len(waiting)] if waiting else []
            return next((groups.popleft() for groups in turned if groups), ())

    def entries(self, number: int) -> Iterator[Entry]:
        """What one lane has to do, until nothing is left."""
        while group := self.take(number):
            yield from group


class Kept:
    """The results of a run, handed over one at a time until the run ends: what is cut off then is no result."""

    def __init__(self, on_result: Callable[[CaseResult], None]) -> None:
        self.results: list[CaseResult] = []
        self.ended = False
        self._on_result, self._lock = on_result, threading.Lock()

    def keep(self, result: CaseResult) -> None:
        with self._lock:
            if not self.ended:
                self.results.append(result)
                self._on_result(result)

    def end(self) -> None:
        """Before the workers are closed; a result that is being written is written to its end."""
        with self._lock:
            self.ended = True


class Lane(threading.Thread):
    """Cases one after the other, by the workers of this lane."""

    failure: BaseException | None = None

    def __init__(
        self, entries: Iterable[Entry], judged: Judged, kept: Kept, on_progress: Callable[[str], None]
    ) -> None:
        super().__init__(daemon=True)
        self.entries, self.judged, self.kept, self.on_progress = entries, judged, kept, on_progress

    def run(self) -> None:
        try:
            for case, target in self.entries:
                if self.kept.ended:
                    return
                self.on_progress(case.id)
                self.kept.keep(self.judged(case, target))
        except BaseException as failure:
            self.failure = failure


def until_done(lanes: Sequence[Lane]) -> None:
    """Wait for all lanes; the first that breaks ends the waiting."""
    while True:
        alive = [lane for lane in lanes if lane.is_alive()]
        for lane in lanes:
            if lane.failure is not None:
                raise lane.failure
        if not alive:
            return
        alive[0].join(POLL_SECONDS)
