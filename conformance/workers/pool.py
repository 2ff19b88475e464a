"""The pool: warm workers for both frameworks, started when first needed, replaced when they break."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import psutil

from conformance.evidence import Evidence
from conformance.workers.crew import Crew, Member
from conformance.workers.jobs import CaseJob, Measured, MeasureJob, Outcome, SitesJob, TruthJob
from conformance.workers.observe import joined

START_SECONDS = 120.0
MEMORY_SHARE = 0.7
Job = CaseJob | TruthJob | SitesJob | MeasureJob


class WorkerFailed(RuntimeError):  # noqa: N818
    """A worker did not start; the message says what it printed."""


class Workers:
    """One JAX process, and one torch fleet per world size; `run` may be called from one thread per framework."""

    def __init__(self, *, jax_devices: int = 8, memory_bytes: int | None = None) -> None:
        self.jax_devices = max(8, jax_devices)
        self.memory_bytes = memory_bytes or int(psutil.virtual_memory().total * MEMORY_SHARE)
        self._folder = Path(tempfile.mkdtemp(prefix="shardproof-workers-"))
        self._switchboard = _Switchboard(str(self._folder / "socket"))
        self._crews: dict[str, Crew] = {}
        self._server: _Process | None = None
        self._missing: dict[str, str] = {}
        self._numbers = itertools.count()
        self._closed = False

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every worker and remove what they logged; whatever another thread still asks for is refused."""
        self._closed = True
        for crew in list(self._crews.values()):
            crew.stop()
        if self._server is not None:
            self._server.stop()
        self._switchboard.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, job: Job, timeout_seconds: float) -> Outcome:
        """Run one job on a warm worker; whatever goes wrong there comes back as an outcome."""
        started = time.perf_counter()
        try:
            crew = self._crew(job)
        except WorkerFailed as failure:
            kind = "unsupported" if job.framework in self._missing else "crash"
            return Outcome(failure=kind, reason=str(failure))
        except (EOFError, OSError) as lost:
            return Outcome(failure="crash", reason=f"The worker ended while it started: {lost or 'no message'}.")
        outcome, answers = crew.run(job, timeout_seconds, self.memory_bytes)
        if outcome.failure is not None:
            return outcome
        try:
            return _outcome(job, answers, time.perf_counter() - started)
        except ValueError as disagreement:
            return Outcome(failure="error", reason=str(disagreement))

    def _crew(self, job: Job) -> Crew:
        key = _crew_key(job)
        if self._closed:
            raise WorkerFailed("The workers have been closed.")
        if job.framework in self._missing:
            raise WorkerFailed(self._missing[job.framework])
        if key == "jax" and not isinstance(job, TruthJob) and job.case.mesh.devices > self.jax_devices:
            self.jax_devices = job.case.mesh.devices  # their number is fixed when the process starts
            if key in self._crews:
                self._crews[key].stop()
        if key not in self._crews or not self._crews[key].alive:
            self._crews[key] = self._jax() if job.framework == "jax" else self._torch(job)
        return self._crews[key]

    def _jax(self) -> Crew:
        process = self._started("jax", "conformance.workers.jax_worker", str(self.jax_devices))
        return Crew([process.member], process.ended)

    def _torch(self, job: Job) -> Crew:
        """Ask the fork server for a fleet; a fleet of one without a process group runs references."""
        if self._server is None or self._server.ended(self._server.member.pid) is not None:
            self._server = self._started("torch", "conformance.workers.torch_server")
        server = self._server
        single = isinstance(job, TruthJob)
        world = 1 if single else job.case.mesh.devices
        name = f"{'reference' if single else 'torch'}{next(self._numbers)}"
        [pids] = [server.ask("fleet", name, world, str(self._folder))]
        members = [
            Member(
                name=f"{name}-{rank}",
                pid=pid,
                connection=self._switchboard.connected(f"{name}-{rank}"),
                log=self._folder / f"{name}-{rank}.log",
            )
            for rank, pid in enumerate(pids)
        ]
        return Crew(members, lambda pid: server.ask("ended", pid))

    def _started(self, framework: str, module: str, *arguments: str) -> _Process:
        name = f"{framework}-{next(self._numbers)}"
        log = self._folder / f"{name}.log"
        command = [sys.executable, "-P", "-m", module, self._switchboard.address, name, str(log), *arguments]
        process = _Process(command, name, log, self._switchboard)
        said, sentence = process.member.connection.recv()
        if said == "missing":
            self._missing[framework] = sentence
            raise WorkerFailed(sentence)
        return process


class _Process:
    """A child of this process: the JAX worker, or the torch fork server."""

    def __init__(self, command: Sequence[str], name: str, log: Path, switchboard: _Switchboard) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)
        try:
            connection = switchboard.connected(name, alive=lambda: self.popen.poll() is None)
        except WorkerFailed as failure:
            printed = log.read_text()[-2000:] if log.exists() else ""
            raise WorkerFailed(f"{failure} {printed}".strip()) from failure
        self.member = Member(name=name, pid=self.popen.pid, connection=connection, log=log)
        self._lock = threading.Lock()

    def ask(self, *request: Any) -> Any:
        with self._lock:
            self.member.connection.send(request)
            return self.member.connection.recv()

    def ended(self, pid: int) -> int | None:
        return self.popen.poll()

    def stop(self) -> None:
        self.popen.kill()
        self.popen.wait()
        self.member.connection.close()


class _Switchboard:
    """Where children call in; each says its name first."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._listener = Listener(address, family="AF_UNIX", backlog=128)
        self._calls: dict[str, Connection] = {}
        self._called = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
                name = connection.recv()
            except (OSError, EOFError):
                return
            with self._called:
                self._calls[name] = connection
                self._called.notify_all()

    def connected(self, name: str, alive: Any = lambda: True) -> Connection:
        """Wait until the child of that name has called in; WorkerFailed if it ends before."""
        deadline = time.monotonic() + START_SECONDS
        with self._called:
            while name not in self._calls:
                if not alive() or time.monotonic() > deadline:
                    raise WorkerFailed(f"The worker {name} did not start.")
                self._called.wait(0.2)
            return self._calls.pop(name)

    def close(self) -> None:
        self._listener.close()


def _crew_key(job: Job) -> str:
    if job.framework == "jax":
        return "jax"
    return "torch reference" if isinstance(job, TruthJob) else f"torch {job.case.mesh.devices}"


def _outcome(job: Job, answers: list[Any], seconds: float) -> Outcome:
    if isinstance(job, TruthJob):
        return Outcome(truth=answers[0], seconds=seconds, phases=answers[0].seconds)
    if isinstance(job, SitesJob):
        return Outcome(sites=answers[0], seconds=seconds)
    if isinstance(job, MeasureJob):
        return Outcome(measured=_slowest(answers), seconds=seconds)
    evidence = answers[0] if len(answers) == 1 else _fleet_evidence(answers)
    return Outcome(evidence=evidence, seconds=seconds, phases=evidence.seconds)


def _slowest(answers: list[Measured]) -> Measured:
    """A step is as slow as its slowest rank."""
    steps = zip(*(answer.step_seconds for answer in answers), strict=True)
    return Measured(step_seconds=tuple(max(step) for step in steps), peak_bytes=answers[0].peak_bytes)


def _fleet_evidence(parts: list[Evidence]) -> Evidence:
    """The evidence of all ranks as one; times are those of the slowest rank."""
    steps = range(len(parts[0].steps))
    return Evidence(
        initial=joined([part.initial for part in parts]),
        steps=tuple(joined([part.steps[i] for part in parts]) for i in steps),
        declarations=parts[0].declarations,
        repeated=None if parts[0].repeated is None else joined([part.repeated or {} for part in parts]),
        responses={key: any(part.responses[key] for part in parts) for key in parts[0].responses},
        devices=tuple(sorted({device for part in parts for device in part.devices})),
        traffic=parts[0].traffic,
        flops=None if parts[0].flops is None else {k: v for part in parts for k, v in (part.flops or {}).items()},
        seconds={phase: max(part.seconds.get(phase, 0.0) for part in parts) for phase in parts[0].seconds},
    )
