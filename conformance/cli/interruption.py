"""Interruption: Ctrl-C and SIGTERM end a command in order, with what it has done."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STATUS = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[None]:
    """The first signal raises KeyboardInterrupt in here; what winds the command up is not interrupted by the next.

    The third ends the process at once: workers end with it, and the next command removes what they leave.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen = 0

    def heard(number: int, frame: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            raise KeyboardInterrupt
        if seen > 2:
            os._exit(STATUS)
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"Winding up; once more ends it at once.\n")

    before = {number: signal.signal(number, heard) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
