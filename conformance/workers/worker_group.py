"""A worker group: the processes that work on one job together, watched until they answer, break, or take too long."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil

from conformance.cases.case import Case
from conformance.workers.folder import end_descendants
from conformance.workers.jobs import CaseJob, Outcome

POLL_SECONDS = 0.1
GRACE_SECONDS = 1.0  # after one rank has failed: the others may be about to say the same, or wait for it forever
MEMORY_SECONDS = 0.5
RENEWED_BYTES = 2**30  # of a process that is idle; that of a small case holds a third of it
ENDING_SECONDS = 2.0
TAIL = 4000  # characters of the last output
FATAL = "Fatal Python error"  # where faulthandler's stack begins


@dataclass(frozen=True, kw_only=True)
class Member:
    """One process of a group; its name is as people say it: `rank 2`, `the JAX worker`."""

    name: str
    pid: int
    connection: Connection
    log: Path


class WorkerGroup:
    """Processes that are given the same job at the same time. `ended(pid)` tells how one ended, None if unknown."""

    def __init__(self, members: Sequence[Member], ended: Callable[[int], int | None]) -> None:
        self.members = list(members)
        self.alive = True
        self.cases: list[Case] = []  # that these processes were given, in this order
        self._ended = ended
        self._gone: set[int] = set()  # ended and reaped: the number may belong to another process by now

    def ready(self) -> bool:
        """Is every process there, with nothing left to say from the last job?"""
        return self.alive and not wait([member.connection for member in self.members], timeout=0)

    def is_worn(self) -> bool:
        """Does a process hold so much between two jobs that a new one is better?

        Frameworks keep what they have compiled and traced, and the C library what many threads have freed: after 1,500
        mutants a JAX worker held 2.1 GB, of which nothing was needed.
        """
        return any(_own_bytes(member.pid) > RENEWED_BYTES for member in self.members)

    def run(self, job: Any, timeout_seconds: float, memory_bytes: int) -> tuple[Outcome, list[Any]]:
        """Give out the job -> (how it went, the answers of all members if it went well)."""
        if isinstance(job, CaseJob):
            self.cases.append(job.case)
        watch = _Watch(self, timeout_seconds, memory_bytes)
        for member in self.members:
            try:
                member.connection.send(job)
            except ConnectionError:
                return watch.crashed(member), []
        return watch.until_answered()

    def stop(self) -> None:
        """End every process of the group and what it has started, at once, and wait until it has ended."""
        if not self.alive:
            return
        self.alive = False
        here = [member for member in self.members if member.pid not in self._gone]
        end_descendants([member.pid for member in here])
        for member in here:
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)
        for member in here:
            self.exit_code(member.pid)
        for member in self.members:
            member.connection.close()

    def exit_code(self, pid: int) -> int | None:
        """How a process that is ending has ended; None if that cannot be known."""
        deadline = time.monotonic() + ENDING_SECONDS
        while psutil.pid_exists(pid) and time.monotonic() < deadline:
            code = self._ended(pid)
            if code is not None:
                self._gone.add(pid)
                return code
            time.sleep(0.01)
        return None


class _Watch:
    """One job under way."""

    def __init__(self, crew: WorkerGroup, timeout_seconds: float, memory_bytes: int) -> None:
        self.crew, self.timeout_seconds, self.memory_bytes = crew, timeout_seconds, memory_bytes
        self.began = {member.name: _size(member.log) for member in crew.members}
        self.started = self.weighed = time.monotonic()
        self.answers: dict[str, tuple[Any, ...]] = {}
        self.failed_since: float | None = None

    def until_answered(self) -> tuple[Outcome, list[Any]]:
        while len(self.answers) < len(self.crew.members):
            broken = self._received() or self._too_long() or self._too_large()
            if broken is not None:
                return broken, []
        failed = self._failed()
        return (failed, []) if failed else (Outcome(), [self.answers[member.name][1] for member in self.crew.members])

    def crashed(self, member: Member) -> Outcome:
        code = self.crew.exit_code(member.pid)
        output = self._output()
        last = _read(member.log, self.began[member.name])
        self.crew.stop()
        sentence = f"{_capital(member.name)} {_spoken(code)}{_raised(last)}."
        return Outcome(failure="crash", reason=sentence, stack=last[last.find(FATAL) :][:TAIL], output=output)

    def _received(self) -> Outcome | None:
        waiting: dict[Any, Member] = {m.connection: m for m in self._silent()}
        for connection in wait(list(waiting), timeout=POLL_SECONDS):
            member = waiting[connection]
            try:
                self.answers[member.name] = member.connection.recv()
            except (EOFError, ConnectionError):
                return self.crashed(member)
            if self.answers[member.name][0] != "done" and self.failed_since is None:
                self.failed_since = time.monotonic()
        return None

    def _too_long(self) -> Outcome | None:
        now = time.monotonic()
        if self.failed_since is not None and now - self.failed_since > GRACE_SECONDS:
            return self._failed()
        return self._hanging() if now - self.started > self.timeout_seconds else None

    def _too_large(self) -> Outcome | None:
        if time.monotonic() - self.weighed < MEMORY_SECONDS:
            return None
        self.weighed = time.monotonic()
        used = sum(_own_bytes(member.pid) for member in self.crew.members)
        if used <= self.memory_bytes:
            return None
        output, stack = self._output(), self._stacks()
        self.crew.stop()
        sentence = f"The case took {used / 2**30:.1f} GiB of memory; the limit is {self.memory_bytes / 2**30:.1f} GiB."
        return Outcome(failure="crash", reason=sentence, stack=stack, output=output)

    def _hanging(self) -> Outcome:
        silent = ", ".join(member.name for member in self._silent())
        output, stack = self._output(), self._stacks()
        self.crew.stop()
        sentence = f"No answer within {self.timeout_seconds:g} seconds from {silent}."
        return Outcome(failure="hang", reason=sentence, stack=stack, output=output)

    def _failed(self) -> Outcome | None:
        """The first failure that a member reported; the group goes on only where none of it can still be waiting."""
        failed = {name: answer for name, answer in self.answers.items() if answer[0] != "done"}
        if not failed:
            return None
        kind, sentence, stack = min(failed.values(), key=lambda answer: answer[0] == "unsupported")
        members = len(self.crew.members)
        output = self._output()
        if members > 1 and (kind == "error" or len(failed) < members):
            self.crew.stop()
        some = f" (only on {', '.join(sorted(failed))})" if len(failed) < members else ""
        return Outcome(failure=kind, reason=f"{sentence}{some}", stack=stack, output=output)

    def _silent(self) -> list[Member]:
        return [member for member in self.crew.members if member.name not in self.answers]

    def _stacks(self) -> str:
        """The stacks of every thread of the members that have not answered."""
        silent = self._silent()
        sizes = {member.name: _size(member.log) for member in silent}
        for member in silent:
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGUSR1)
        time.sleep(0.5)
        return "\n".join(f"{member.name}:\n{_read(member.log, sizes[member.name])}" for member in silent)

    def _output(self) -> str:
        """The last output of every member during this job."""
        texts = ((member.name, _read(member.log, self.began[member.name])) for member in self.crew.members)
        return "\n".join(f"{name}: {text[-TAIL:]}" for name, text in texts if text.strip())


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _read(log: Path, start: int) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")


def _own_bytes(pid: int) -> int:
    """Resident memory that a process does not share: forked ranks share the framework's code."""
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.NoSuchProcess:
        return 0
    return int(memory.rss - getattr(memory, "shared", 0))


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _raised(log: str) -> str:
    """`: ` and the exception that ended a process, if its log holds a traceback that ends it."""
    _, traceback, frames = log.rpartition("Traceback (most recent call last):")
    raised = (line for line in frames.splitlines() if line and not line[0].isspace())
    sentence = next(raised, "") if traceback else ""
    return f": {sentence.rstrip('.')}" if sentence else ""


def _spoken(code: int | None) -> str:
    if code is None:
        return "ended without a word"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
