"""The pool: warm workers for both frameworks, started when first needed, replaced when they break."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import partial

import psutil

from conformance.cases.case import Case
from conformance.workers.child import Child, start
from conformance.workers.connections import ConnectionListener, WorkerFailed
from conformance.workers.finished import finished_by_all
from conformance.workers.folder import WorkFolder, end_orphans
from conformance.workers.jobs import (
    CaseJob,
    OfReference,
    Outcome,
    Task,
)
from conformance.workers.needed import host_devices, kind_of, processes, processes_of
from conformance.workers.observe import Unreadable
from conformance.workers.outcome import outcome_of
from conformance.workers.spot import Spot, Visible
from conformance.workers.worker_group import Member, WorkerGroup
from conformance.workers.world import World, WorldGroup

MEMORY_SHARE = 0.7


class Workers:
    """One JAX process, and one torch fleet per world size; `run` is called from one thread per framework at most.

    Other threads take those of another lane, `lane(1)` and on: as many more processes, started when first needed.
    """

    def __init__(self, *, jax_devices: int = 8, memory_bytes: int | None = None, world: World | None = None) -> None:
        self.world = world
        self.jax_devices = max(8, jax_devices)
        self.memory_bytes = memory_bytes or int(psutil.virtual_memory().total * MEMORY_SHARE)
        self._work = WorkFolder()
        self._folder = self._work.path
        self._switchboard = ConnectionListener(str(self._folder / "socket"))
        # A worker ends with the thread that started it, so that thread must live as long as the pool.
        self._starter = ThreadPoolExecutor(max_workers=1)
        self._crews: dict[str, WorkerGroup | WorldGroup] = {}
        self._visible: dict[str, Visible] = {}  # framework -> its real devices
        self._jax_children: list[Child] = []
        self._servers: list[Child] = []  # the torch fork server, after those that it replaced; all lanes use it
        self._serving = threading.Lock()
        self._missing: dict[str, str] = {}  # framework -> a sentence: not installed
        self._broken: dict[str, str] = {}  # installed, but its import fails
        self._numbers = itertools.count()
        self._beside: list[Workers] = []  # that end with these
        self._lanes: list[Workers] = [self]
        self._ending = threading.RLock()
        self._closed = self._ended = False

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every worker and what it has started, and remove what they logged."""
        with self._ending:
            self._closed = True
            if self._ended:
                return
            self._starter.shutdown()
            for workers in (*self._beside, self):
                workers._end()
            for server in self._servers:
                server.stop()
            self._switchboard.close()
            self._work.remove()
            self._ended = True

    def _end(self) -> None:
        self._closed = True
        for crew in list(self._crews.values()):
            crew.stop()
        for child in self._jax_children:
            child.stop()
        if self.world is not None:
            self.world.end()

    def lane(self, number: int) -> Workers:
        """The workers of one lane; number 0 are these."""
        with self._ending:
            while len(self._lanes) <= number:
                self._lanes.append(self._made())
            return self._lanes[number]

    @contextmanager
    def fresh(self) -> Iterator[Workers]:
        """Workers that have run nothing yet, beside these, which go on as they are, and ended with them at the latest.

        The torch fork server runs nothing itself: ranks that it forks now are as new as the first.
        """
        made = self._made()
        try:
            yield made
        finally:
            with self._ending:
                made._end()
                self._beside.remove(made)

    def _made(self) -> Workers:
        with self._ending:
            if self._closed:
                raise WorkerFailed("The workers have been closed.")
            made = copy(self)
            made._crews, made._jax_children, made._lanes = {}, [], [made]
            self._beside.append(made)
            return made

    def before(self, case: Case, framework: str) -> tuple[Case, ...]:
        """The cases that the processes of the case that was run last had been given before it, in that order."""
        crew = self._crews.get(processes(framework, case))
        given = crew.cases if crew is not None else []
        return tuple(dict.fromkeys(earlier for earlier in given if earlier != case))

    def run(self, job: Task, timeout_seconds: float) -> Outcome:
        """Run one job on a warm worker; whatever goes wrong there comes back as an outcome."""
        started = time.perf_counter()
        try:
            crew = self._crew(job)
        except WorkerFailed as failure:
            if job.framework in self._missing:
                return Outcome(failure="unsupported", reason=str(failure), missing=job.framework)
            return Outcome(failure="error" if job.framework in self._broken else "crash", reason=str(failure))
        outcome, answers = crew.run(job, timeout_seconds, self.memory_bytes)
        if outcome.failure is not None:
            elsewhere = isinstance(crew, WorldGroup) and crew.world.peers  # what these had finished is not known here
            kept = None if elsewhere else finished_by_all(self._folder, [member.pid for member in crew.members])
            return replace(outcome, evidence=kept) if isinstance(job, CaseJob) else outcome
        try:
            return outcome_of(job, answers, time.perf_counter() - started)
        except Unreadable as failure:
            return Outcome(failure="error", reason=str(failure))

    def _crew(self, job: Task) -> WorkerGroup | WorldGroup:
        if self._closed:
            raise WorkerFailed("The workers have been closed.")
        unusable = self._missing | self._broken
        if job.framework in unusable:
            raise WorkerFailed(unusable[job.framework])
        key = processes_of(job)
        if (needed := host_devices(job)) > self.jax_devices:
            self.jax_devices = needed  # fixed when the process starts: start another
            self._crews.pop(key, WorkerGroup([], lambda pid: None)).stop()
        if key in self._crews and not self._is_fit(self._crews[key], kind_of(job)):
            self._crews.pop(key).stop()
            end_orphans(self._folder)
        if key not in self._crews:
            self._crews[key] = self._group(job)
        return self._crews[key]

    def _is_fit(self, crew: WorkerGroup | WorldGroup, kind: str) -> bool:
        """Ready, and not worn: where real devices are, a process holds much, and is slow to start."""
        worn = kind == "emulated" and isinstance(crew, WorkerGroup) and crew.is_worn()
        return crew.ready() and not worn

    def _group(self, job: Task) -> WorkerGroup | WorldGroup:
        if self.world is not None and kind_of(job) == "real":
            return self._in_world(self.world, job.framework)
        return self._jax(kind_of(job)) if job.framework == "jax" else self._torch(job)

    def _in_world(self, world: World, framework: str) -> WorldGroup:
        for key in [key for key, crew in self._crews.items() if isinstance(crew, WorldGroup)]:
            self._crews.pop(key).stop()  # one worker has the devices of a process at a time
        group = world.group(framework, self.ranked)
        self._visible[framework] = group.visible
        return group

    def ranked(self, framework: str, spot: Spot) -> tuple[WorkerGroup, Visible]:
        """The worker of one rank of a world."""
        module = {"jax": "conformance.workers.jax_worker", "torch": "conformance.workers.torch_rank"}[framework]
        before = ("real", "0") if framework == "jax" else ()
        child = self._started(framework, module, self._jax_children, *before, spot.words)
        return _alone(child, f"rank {spot.rank}"), Visible.read(child.said)

    def visible(self, framework: str) -> Visible:
        """The real devices of a framework, in the world if there is one. WorkerFailed where it does not start."""
        if framework not in self._visible:
            if self.world is not None:
                key = f"{framework} real"
                self._crews[key] = self._in_world(self.world, framework)
            elif framework == "jax":
                self._crews["jax real"] = self._jax("real")
            else:
                self._visible["torch"] = self._shown_by_torch()
        return self._visible[framework]

    def _shown_by_torch(self) -> Visible:
        said = self._server().ask("visible")
        if not said:
            raise WorkerFailed("torch failed when it was asked which devices it shows.")
        return Visible.read(said)

    def _jax(self, kind: str) -> WorkerGroup:
        module, devices = "conformance.workers.jax_worker", str(self.jax_devices)
        child = self._started("jax", module, self._jax_children, kind, devices)
        if kind == "real":
            self._visible["jax"] = Visible.read(child.said)
        return _alone(child, "the JAX worker")

    def _torch(self, job: Task) -> WorkerGroup:
        """Ask the fork server for a fleet; a fleet of one without a process group runs references.

        On a single device one process stands for all ranks of a world.
        """
        server = self._server()
        alone = isinstance(job, OfReference)
        world = 1 if isinstance(job, OfReference) else job.case.mesh.devices
        processes = 1 if kind_of(job) == "single" else world
        if kind_of(job) == "real":
            self._free_accelerators()
        fleet = f"{'reference' if alone else 'torch'}{next(self._numbers)}"
        pids = server.ask("fleet", fleet, world, processes, str(self._folder), kind_of(job))
        if pids is None:
            raise WorkerFailed("The torch fork server ended while it started a fleet.")
        crew = WorkerGroup([], lambda pid: server.ask("ended", pid))
        for rank, pid in enumerate(pids):
            call = self._switchboard.connected(f"{fleet}-{rank}", partial(_lives, server, pid))
            name, log = "the torch reference" if alone else f"rank {rank}", self._folder / f"{fleet}-{rank}.log"
            crew.members.append(Member(name=name, pid=pid, connection=call, log=log))
        return crew

    def _free_accelerators(self) -> None:
        """End the other fleets on real devices: each rank has an accelerator of its own."""
        for key in [key for key in self._crews if key.startswith("torch real")]:
            self._crews.pop(key).stop()

    def _server(self) -> Child:
        with self._serving:
            if not self._servers or self._servers[-1].ended() is not None:
                self._started("torch", "conformance.workers.torch_server", self._servers)
            return self._servers[-1]

    def _started(self, framework: str, module: str, children: list[Child], *arguments: str) -> Child:
        """Start a child of this process, another of `children`, and wait until its framework is imported."""
        name = f"{framework}-{next(self._numbers)}"
        log = self._folder / f"{name}.log"
        command = [sys.executable, "-P", "-m", module, self._switchboard.address, name, str(log), *arguments]
        child = Child(self._starter.submit(start, command, self._work.environment()).result(), log)
        children.append(child)
        try:
            said, sentence = child.call_in(self._switchboard, name)
        except WorkerFailed:
            child.stop()
            raise
        if said != "ready":
            child.stop()
            (self._missing if said == "missing" else self._broken)[framework] = sentence
            raise WorkerFailed(sentence)
        child.said = sentence
        return child


def _alone(child: Child, name: str) -> WorkerGroup:
    member = Member(name=name, pid=child.pid, connection=child.connection, log=child.log)
    return WorkerGroup([member], lambda pid: child.ended())


def _lives(server: Child, pid: int) -> bool:
    return server.ask("ended", pid) is None
