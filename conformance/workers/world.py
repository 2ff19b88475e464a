"""The world: one worker on each of many processes that a launcher started, as rank 0's parent process sees it.

Every process that is launched is a parent: it starts a worker, which has the devices, and outlives it. Rank 0's parent
plans, judges and records; the others do what it says (`follower`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

from conformance.cases.case import Case
from conformance.workers.connections import WorkerFailed
from conformance.workers.jobs import CaseJob, Outcome
from conformance.workers.launch import Launch
from conformance.workers.meeting import Peer
from conformance.workers.running import Ran, Running
from conformance.workers.spot import Spot, Visible, free_port
from conformance.workers.worker_group import Member, WorkerGroup

POLL_SECONDS = 0.1
GRACE_SECONDS = 3.0  # after one rank has failed: the others may be about to say the same, or wait for it
LATE_SECONDS = 10.0  # more than the timeout of a case, for the parent of another rank to say that it hangs
Starter = Callable[[str, Spot], tuple[WorkerGroup, Visible]]


class World:
    """The parents of all other ranks. `lost` is a sentence as soon as one of them is gone: nothing can run any more."""

    def __init__(self, launch: Launch, peers: Sequence[Peer]) -> None:
        self.launch, self.peers, self.lost = launch, list(peers), ""

    def group(self, framework: str, starter: Starter) -> WorldGroup:
        """A new worker on every process, the old ones ended. WorkerFailed says where one did not start."""
        if self.lost:
            raise WorkerFailed(self.lost)
        spot = Spot.of(self.launch, free_port(self.launch.host))
        self._tell("start", framework, spot.port)
        group, visible = starter(framework, spot)
        for peer in self.peers:
            said, sentence = self._heard(peer)
            if said != "ready":
                group.stop()
                raise WorkerFailed(f"On {peer} no worker started: {sentence}")
        return WorldGroup(self, group, visible)

    def end(self) -> None:
        """Let the others go."""
        self._tell("end")
        for peer in self.peers:
            peer.connection.close()

    def lose(self, peer: Peer) -> str:
        self.lost = self.lost or f"The connection to {peer} is lost: its process has ended, or the network is cut."
        return self.lost

    def _tell(self, *words: Any) -> None:
        for peer in self.peers:
            with suppress(OSError):  # it shows when it is heard
                peer.connection.send(words)

    def _heard(self, peer: Peer) -> tuple[str, str]:
        try:
            said, sentence = peer.connection.recv()
            return str(said), str(sentence)
        except (EOFError, OSError):
            raise WorkerFailed(self.lose(peer)) from None


class WorldGroup:
    """The workers of all ranks for one framework: a worker group whose other members are on other processes."""

    def __init__(self, world: World, local: WorkerGroup, visible: Visible) -> None:
        self.world, self.local, self.visible = world, local, visible
        self.alive = True
        self.cases: list[Case] = []

    @property
    def members(self) -> list[Member]:
        return self.local.members

    def ready(self) -> bool:
        return self.alive and not self.world.lost and self.local.ready()

    def stop(self) -> None:
        self.alive = False
        self.world._tell("stop")
        self.local.stop()

    def run(self, job: Any, timeout_seconds: float, memory_bytes: int) -> Ran:
        """Give out the job -> (how it went, the answers of all ranks if it went well)."""
        if isinstance(job, CaseJob):
            self.cases.append(job.case)
        self.world._tell("run", job, timeout_seconds)
        running = Running(self.local, job, timeout_seconds, memory_bytes)
        heard: dict[int, Ran] = {}
        until = time.monotonic() + timeout_seconds + LATE_SECONDS
        failed_since: float | None = None
        while running.is_alive() or len(heard) < len(self.world.peers):
            if sentence := self._listen(heard):
                return self._lost(running, sentence)
            failed = any(outcome.failure for outcome, _ in (*heard.values(), *_done(running)))
            failed_since = (failed_since or time.monotonic()) if failed else None
            if time.monotonic() > until or (failed_since and time.monotonic() - failed_since > GRACE_SECONDS):
                break
        return self._together(running, heard)

    def _listen(self, heard: dict[int, Ran]) -> str:
        """Take what the others have to say; a sentence if one of them is lost."""
        silent = {peer.connection: peer for peer in self.world.peers if peer.rank not in heard}
        if not silent:
            time.sleep(POLL_SECONDS)
        for connection in wait(list(silent), timeout=POLL_SECONDS):
            peer = silent[connection]  # type: ignore[index]
            try:
                heard[peer.rank] = peer.connection.recv()
            except (EOFError, OSError):
                return self.world.lose(peer)
        return ""

    def _lost(self, running: Running, sentence: str) -> Ran:
        outcome, _ = running.stopped()
        self.alive = False
        own = f" Rank 0 itself: {outcome.reason}" if outcome.failure and "SIGKILL" not in outcome.reason else ""
        return Outcome(failure="crash", reason=f"{sentence}{own}", stack=outcome.stack, output=outcome.output), []

    def _together(self, running: Running, heard: dict[int, Ran]) -> Ran:
        """What all ranks came to: the first failure, or all answers in the order of ranks."""
        silent = [peer for peer in self.world.peers if peer.rank not in heard]
        known = {0: running.ran} if not running.is_alive() else {}
        known |= heard
        failures = {rank: outcome for rank, (outcome, _) in known.items() if outcome.failure}
        if not failures and not silent and not running.is_alive():
            return Outcome(), [answer for rank in sorted(known) for answer in known[rank][1]]
        if not (failures and all(outcome.failure == "unsupported" for outcome, _ in known.values()) and not silent):
            self.stop()  # somebody may still wait for somebody else
        if not failures:
            return Outcome(failure="hang", reason=f"No answer from {', '.join(map(str, silent))}."), []
        rank = min(failures, key=lambda rank: (failures[rank].failure == "unsupported", rank))
        some = (
            f" (on rank {', '.join(map(str, sorted(failures)))} only)" if len(failures) <= len(self.world.peers) else ""
        )
        return _with_reason(failures[rank], some), []


def _done(running: Running) -> list[Ran]:
    return [] if running.is_alive() else [running.ran]


def _with_reason(outcome: Outcome, more: str) -> Outcome:
    return Outcome(failure=outcome.failure, reason=outcome.reason + more, stack=outcome.stack, output=outcome.output)
