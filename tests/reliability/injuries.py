"""What a program does to the process it runs in, which it names in a file first."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

MARK = "SHARDPROOF_RELIABILITY"  # in the environment of a command and all that it starts


def process_file(mark: str) -> Path:
    """Where the process that is hurt leaves its id."""
    return Path(tempfile.gettempdir()) / f"shardproof-reliability-{mark}"


class Injured:
    """In front of a conforming class: its step does something else first, in torch on the last rank alone."""

    def step(self, state: Any, batch: Any) -> Any:
        if self.is_hurt():
            process_file(os.environ[MARK]).write_text(str(os.getpid()))
            self.hurt()
        return super().step(state, batch)  # type: ignore[misc]

    def is_hurt(self) -> bool:
        return True

    def hurt(self) -> None:
        raise NotImplementedError


class Deadlocks(Injured):
    """Waits for a lock that it holds; in torch the other rank waits for it in a sum."""

    def hurt(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()


class Aborts(Injured):
    def hurt(self) -> None:
        os.abort()


class Raises(Injured):
    def hurt(self) -> None:
        raise ValueError("the step has a bug")


class Sleeps(Injured):
    def hurt(self) -> None:
        time.sleep(3600)


class EatsMemory(Injured):
    def hurt(self) -> None:
        eaten = []
        while True:
            eaten.append(np.ones(2**24))  # 128 MiB, touched
            time.sleep(0.005)


class Slow(Injured):
    """Right, and late: time for whoever wants to break in."""

    def hurt(self) -> None:
        time.sleep(6)
