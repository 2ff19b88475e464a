"""What every worker process does: answer jobs one by one, leave stacks when asked, end when its parent ends."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from conformance.cases.raised import sentence, stack, stack_of_theirs
from conformance.contract.implementation import Unsupported
from conformance.workers.observe import Unreadable

PR_SET_PDEATHSIG = 1


def log_to(path: str) -> None:
    """Everything this process prints, from any library, goes to its log; SIGUSR1 adds the stack of every thread."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    faulthandler.enable(file=sys.stderr)
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)


def die_with_parent() -> None:
    """The kernel ends this process when the thread that started it ends (Linux); elsewhere the closed connection does.

    Ctrl-C is the parent's affair: it ends its workers itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if Path("/proc").exists():
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def connect(address: str, name: str) -> Connection:
    connection = Client(address, family="AF_UNIX")
    connection.send(name)
    return connection


def importing(connection: Connection, framework: str) -> bool:
    """Import a framework; where that fails, say so to the parent."""
    try:
        __import__(framework)
    except Exception as failure:
        message = " ".join(str(failure).split()).rstrip(".")
        kind = "missing" if isinstance(failure, ImportError) else "broken"
        connection.send((kind, f"{framework} cannot be imported: {message}."))
        return False
    return True


def answer_jobs(connection: Connection, answer: Callable[[Any], Any]) -> None:
    """Jobs in, ('done', value) or ('unsupported' | 'error', sentence, stack) out, until the connection closes."""
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        reply = _answered(job, answer)
        sys.stdout.flush()
        try:
            connection.send(reply)
        except (TypeError, AttributeError, ValueError) as failure:  # what pickle raises, before anything is sent
            connection.send(("error", f"The evidence cannot be sent: {failure}", traceback.format_exc()))


def _answered(job: Any, answer: Callable[[Any], Any]) -> tuple[Any, ...]:
    """The reply; what it says can be printed, whatever names and bytes a message holds."""
    kind, *said = _reply(job, answer)
    return (kind, *said) if kind == "done" else (kind, *(_printable(text) for text in said))


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _reply(job: Any, answer: Callable[[Any], Any]) -> tuple[Any, ...]:
    try:
        return ("done", answer(job))
    except Unsupported as refusal:
        return ("unsupported", str(refusal), "")
    except Unreadable as failure:
        return ("error", str(failure), stack_of_theirs(failure))
    except Exception as failure:
        return ("error", sentence(failure), stack(failure))
