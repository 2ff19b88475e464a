"""A child of the main process: the JAX worker, or the torch fork server."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from conformance.cases import importing
from conformance.workers.connections import ConnectionListener, WorkerFailed
from conformance.workers.folder import end_descendants

PRINTED = 2000  # characters of what a child printed that did not start


def start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """With the modules of the main process, in a process group of its own: Ctrl-C at the terminal is not for it."""
    given = {**importing.environment(), **environment}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, env=given)


class Child:
    """A started process, its log and, once it has called in, its connection."""

    connection: Connection
    said: str = ""  # once it was ready

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.popen, self.log, self.pid = popen, log, popen.pid
        self._lock = threading.Lock()

    def call_in(self, switchboard: ConnectionListener, name: str) -> tuple[str, str]:
        """Wait for its first words, ('ready' | 'missing' | 'broken', sentence); WorkerFailed if it ends before."""
        try:
            self.connection = switchboard.connected(name, lambda: self.ended() is None)
            value: tuple[str, str] = self.connection.recv()
            return value
        except (WorkerFailed, EOFError, ConnectionError) as failure:
            printed = self.log.read_text(errors="replace")[-PRINTED:] if self.log.exists() else ""
            sentence = str(failure) or f"The worker process {name} ended while it started."
            raise WorkerFailed(f"{sentence} {printed}".strip()) from failure

    def ask(self, *request: Any) -> Any:
        """Request and answer; None when it has ended."""
        with self._lock, suppress(OSError, EOFError):
            self.connection.send(request)
            return self.connection.recv()
        return None

    def ended(self) -> int | None:
        """Its exit code (negative: the signal that ended it), None while it lives."""
        return self.popen.poll()

    def stop(self) -> None:
        end_descendants([self.pid])
        self.popen.kill()
        self.popen.wait()
        with self._lock, suppress(AttributeError):
            self.connection.close()
