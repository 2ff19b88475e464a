"""A job that is running: on the worker of this host, in a thread, so that the other hosts can be watched meanwhile."""

from __future__ import annotations

import threading
from typing import Any

from conformance.workers.jobs import Outcome
from conformance.workers.worker_group import WorkerGroup

Ran = tuple[Outcome, list[Any]]


class Running(threading.Thread):
    """Starts at once; `ran` is what came of it, once it is no longer alive."""

    ran: Ran

    def __init__(self, group: WorkerGroup, job: Any, timeout_seconds: float, memory_bytes: int) -> None:
        super().__init__(daemon=True)
        self._group, self.job = group, job
        self._limits = timeout_seconds, memory_bytes
        self.start()

    def run(self) -> None:
        try:
            self.ran = self._group.run(self.job, *self._limits)
        except Exception as failure:  # its connection was closed under it
            self.ran = Outcome(failure="crash", reason=f"The worker was stopped ({failure})."), []

    def stopped(self) -> Ran:
        """End the worker -> what the job came to."""
        self._group.stop()
        self.join()
        return self.ran
