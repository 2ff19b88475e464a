"""A crew: the processes that work on one job together, watched until they answer, break, or take too long."""

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

from conformance.workers.jobs import Outcome

POLL_SECONDS = 0.1
GRACE_SECONDS = 1.0  # after one rank has failed: the others may be about to say the same, or wait for it forever
MEMORY_SECONDS = 0.5
TAIL = 4000  # characters of the last output


@dataclass(frozen=True, kw_only=True)
class Member:
    """One process of a crew."""

    name: str
    pid: int
    connection: Connection
    log: Path


class Crew:
    """Processes that are given the same job at the same time. `ended(pid)` tells how a process ended, None if unknown."""

    def __init__(self, members: Sequence[Member], ended: Callable[[int], int | None]) -> None:
        self.members = list(members)
        self.ended = ended
        self.alive = True

    def run(self, job: Any, timeout_seconds: float, memory_bytes: int) -> tuple[Outcome, list[Any]]:
        """Give out the job -> (how it went, the answers of all members if it went well)."""
        began = {member.name: _size(member.log) for member in self.members}
        watch = _Watch(self, began, time.monotonic() + timeout_seconds, timeout_seconds, memory_bytes)
        try:
            for member in self.members:
                member.connection.send(job)
        except (BrokenPipeError, ConnectionResetError):
            return watch.crashed(self.members[0]), []
        return watch.until_answered()

    def stop(self) -> None:
        """End every process of the crew, at once."""
        self.alive = False
        for member in self.members:
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)
            member.connection.close()


class _Watch:
    """One job under way."""

    def __init__(
        self, crew: Crew, began: dict[str, int], deadline: float, timeout_seconds: float, memory_bytes: int
    ) -> None:
        self.crew, self.began, self.deadline, self.memory_bytes = crew, began, deadline, memory_bytes
        self.timeout_seconds = timeout_seconds
        self.answers: dict[str, tuple] = {}
        self.failed_since: float | None = None
        self.weighed = 0.0

    def until_answered(self) -> tuple[Outcome, list[Any]]:
        while len(self.answers) < len(self.crew.members):
            broken = self._received() or self._too_long() or self._too_large()
            if broken is not None:
                return broken, []
        return self._concluded()

    def _received(self) -> Outcome | None:
        waiting = {m.connection: m for m in self.crew.members if m.name not in self.answers}
        for connection in wait(list(waiting), timeout=POLL_SECONDS):
            member = waiting[connection]  # type: ignore[index]
            try:
                self.answers[member.name] = member.connection.recv()
            except (EOFError, ConnectionResetError):
                return self.crashed(member)
            if self.answers[member.name][0] != "done" and self.failed_since is None:
                self.failed_since = time.monotonic()
        return None

    def _too_long(self) -> Outcome | None:
        now = time.monotonic()
        if self.failed_since is not None and now - self.failed_since > GRACE_SECONDS:
            outcome, _ = self._concluded()
            self.crew.stop()
            return outcome
        return self._hanging() if now > self.deadline else None

    def _too_large(self) -> Outcome | None:
        if time.monotonic() - self.weighed < MEMORY_SECONDS:
            return None
        self.weighed = time.monotonic()
        used = sum(_own_bytes(member.pid) for member in self.crew.members)
        if used <= self.memory_bytes:
            return None
        output = self._output()
        self.crew.stop()
        sentence = f"The case took {used / 2**30:.1f} GiB of memory; the limit is {self.memory_bytes / 2**30:.1f} GiB."
        return Outcome(failure="crash", reason=sentence, output=output)

    def _hanging(self) -> Outcome:
        output = self._output()
        sizes = {member.name: _size(member.log) for member in self.crew.members}
        for member in self.crew.members:
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGUSR1)
        time.sleep(0.5)
        stacks = [f"{m.name}:\n{_read(m.log, sizes[m.name])}" for m in self.crew.members]
        self.crew.stop()
        silent = [member.name for member in self.crew.members if member.name not in self.answers]
        sentence = f"No answer within {self.timeout_seconds:g} seconds from {', '.join(silent)}."
        return Outcome(failure="hang", reason=sentence, stack="\n".join(stacks), output=output)

    def crashed(self, member: Member) -> Outcome:
        code = self._exit_code(member.pid)
        output = self._output()
        self.crew.stop()
        return Outcome(
            failure="crash", reason=f"The process {member.name} {_spoken(code)}.", output=output, stack=output
        )

    def _exit_code(self, pid: int) -> int | None:
        for _ in range(20):
            try:
                code = self.crew.ended(pid)
            except (EOFError, OSError):  # the fork server that would know is gone too
                return None
            if code is not None:
                return code
            time.sleep(0.05)
        return None

    def _concluded(self) -> tuple[Outcome, list[Any]]:
        """All members have answered, or one has failed and the others wait for it."""
        failed = [(name, answer) for name, answer in self.answers.items() if answer[0] != "done"]
        if not failed:
            return Outcome(), [self.answers[member.name][1] for member in self.crew.members]
        name, (kind, sentence, stack) = min(failed, key=lambda item: item[1][0] == "unsupported")
        alone = f" ({name} only)" if len(failed) < len(self.crew.members) else ""
        output = self._output()
        if kind == "error" and len(self.crew.members) > 1:
            self.crew.stop()  # other ranks may still be inside a collective of this case
        return Outcome(failure=kind, reason=f"{sentence}{alone}", stack=stack, output=output), []

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
    return memory.rss - getattr(memory, "shared", 0)


def _spoken(code: int | None) -> str:
    if code is None:
        return "ended without a word"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
