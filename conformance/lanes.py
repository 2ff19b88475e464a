"""Lanes: the cases of each framework, one after the other, beside those of the other; what a run keeps of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from conformance.cases import Case
from conformance.resolve import Target
from conformance.results import CaseResult

POLL_SECONDS = 0.2
Judged = Callable[[Case, Target], CaseResult]


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
    """One framework's cases, one after the other."""

    failure: BaseException | None = None

    def __init__(
        self,
        entries: Sequence[tuple[Case, Target]],
        judged: Judged,
        kept: Kept,
        on_progress: Callable[[str], None],
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
