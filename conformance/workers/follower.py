"""The follower: the parent process of every rank but 0. It starts the worker of its rank and does what rank 0 says.

What breaks here is also written here, to `rank<n>.jsonl` in the folder of the run: rank 0 may be out of reach.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from conformance.workers.connections import WorkerFailed
from conformance.workers.jobs import Outcome
from conformance.workers.launch import Launch
from conformance.workers.pool import Workers
from conformance.workers.running import Running
from conformance.workers.spot import Spot
from conformance.workers.worker_group import WorkerGroup

POLL_SECONDS = 0.1


class Follower:
    """One rank. `run` returns the exit status: 0 when rank 0 let it go, 1 when rank 0 was lost."""

    def __init__(self, launch: Launch, connection: Connection, workers: Workers, folder: Path | None) -> None:
        self.launch, self.connection, self.workers, self.folder = launch, connection, workers, folder
        self.group: WorkerGroup | None = None
        self.running: Running | None = None

    def run(self) -> int:
        while True:
            if self.running is not None and not self.running.is_alive():
                self._answer(self.running)
            try:
                if not self.connection.poll(POLL_SECONDS):
                    continue
                word, *details = self.connection.recv()
            except (EOFError, OSError):
                return self._lost()
            if word == "end":
                return 0
            does: dict[str, Callable[..., None]] = {"start": self._start, "run": self._run, "stop": self._stop}
            does[word](*details)

    def _start(self, framework: str, port: int) -> None:
        self._stop()
        try:
            self.group, visible = self.workers.ranked(framework, Spot.of(self.launch, port))
            self._say(("ready", visible.words))
        except WorkerFailed as failure:
            self._say(("broken", str(failure)))

    def _run(self, job: Any, timeout_seconds: float) -> None:
        assert self.group is not None
        self._began = time.monotonic()
        self.running = Running(self.group, job, timeout_seconds, self.workers.memory_bytes)

    def _stop(self) -> None:
        running, self.running = self.running, None
        if running is not None:
            running.stopped()
        elif self.group is not None:
            self.group.stop()

    def _answer(self, running: Running) -> None:
        self.running = None
        if running.ran[0].failure not in (None, "unsupported"):
            self._write(running, running.ran[0])
        self._say(running.ran)

    def _say(self, words: Any) -> None:
        try:
            self.connection.send(words)
        except OSError:  # shows when rank 0 is listened to
            return

    def _lost(self) -> int:
        """Rank 0 is gone: end what runs, and say so."""
        sentence = f"Rank 0 at {self.launch.host} is lost: its process has ended, or the network is cut."
        if self.running is not None:
            outcome, _ = self.running.stopped()
            self._write(self.running, Outcome(failure="crash", reason=sentence, output=outcome.output))
        print(f"Rank {self.launch.rank}: {sentence} What rank 0 has recorded is kept there.", file=sys.stderr)
        return 1

    def _write(self, running: Running, outcome: Outcome) -> None:
        """What broke on this rank."""
        seconds = round(time.monotonic() - self._began, 1)
        what = running.job.case.id if hasattr(running.job, "case") else type(running.job).__name__
        print(
            f"Rank {self.launch.rank}: {outcome.failure} after {seconds} s: {what}: {outcome.reason}", file=sys.stderr
        )
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            line = {"case": what, "rank": self.launch.rank, "verdict": outcome.failure, "reason": outcome.reason,
                    "seconds": seconds, "output": outcome.output}  # fmt: skip
            with (self.folder / f"rank{self.launch.rank}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
