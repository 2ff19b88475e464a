"""What every worker process does: answer jobs one by one, leave stacks when asked, end when its parent ends."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from conformance.implementation import Unsupported

PR_SET_PDEATHSIG = 1


def log_to(path: str) -> None:
    """Everything this process prints, from any library, goes to its log; SIGUSR1 adds the stack of every thread."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    faulthandler.enable(file=sys.stderr)
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)


def ignore_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal; the main process alone decides what becomes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def die_with_parent() -> None:
    """The kernel ends this process when the thread that forked it ends (Linux): only for the fork server's children,
    since the main process starts workers from threads that end before it does."""
    if Path("/proc").exists():
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with_connection(connection: Connection) -> None:
    """End this process, busy or not, as soon as the other end of its connection is closed."""

    def watch() -> None:
        poll = select.poll()
        poll.register(connection.fileno(), 0)  # a hang-up is reported without being asked for
        poll.poll()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def connect(address: str, name: str) -> Connection:
    connection = Client(address, family="AF_UNIX")
    connection.send(name)
    return connection


def answer_jobs(connection: Connection, answer: Callable[[Any], Any]) -> None:
    """Jobs in, ('done', value) or ('unsupported' | 'error', sentence, stack) out, until the connection closes."""
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(_answered(job, answer))


def _answered(job: Any, answer: Callable[[Any], Any]) -> tuple:
    try:
        return ("done", answer(job))
    except Unsupported as refusal:
        return ("unsupported", str(refusal), "")
    except Exception as failure:
        sentence = f"{type(failure).__name__}: {str(failure).strip()}"
        return ("error", sentence, traceback.format_exc())
