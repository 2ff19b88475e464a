"""Connections: where worker processes call in, each saying its name first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener

from conformance.contract.errors import ShardproofError

START_SECONDS = 120.0


class WorkerFailed(ShardproofError, RuntimeError):  # noqa: N818
    """A worker did not start; the message says what it printed."""

    status = 1


class ConnectionListener:
    """Listens on a socket file until closed."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._listener = Listener(address, family="AF_UNIX", backlog=128)
        self._calls: dict[str, Connection] = {}
        self._called = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def connected(self, name: str, alive: Callable[[], bool]) -> Connection:
        """Wait until the process of that name has called in; WorkerFailed if it ends before."""
        deadline = time.monotonic() + START_SECONDS
        with self._called:
            while name not in self._calls:
                if not alive():
                    raise WorkerFailed(f"The worker process {name} ended while it started.")
                if time.monotonic() > deadline:
                    raise WorkerFailed(f"The worker process {name} did not start within {START_SECONDS:g} seconds.")
                self._called.wait(0.2)
            return self._calls.pop(name)

    def close(self) -> None:
        self._closed = True
        with suppress(OSError):
            Client(self.address, family="AF_UNIX").close()  # wakes the thread
        self._thread.join(1.0)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            with suppress(EOFError, ConnectionError):  # a process that died as it called
                connection = self._listener.accept()
                name = connection.recv()
                with self._called:
                    self._calls[name] = connection
                    self._called.notify_all()
