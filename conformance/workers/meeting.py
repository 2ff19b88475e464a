"""The meeting: the parent processes of a world, each with a connection to that of rank 0.

The kernel asks a silent partner for a sign of life, so that a cut network shows within SILENT_SECONDS on both sides.
The network is trusted, as those of torchrun and of jax.distributed are.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any

from conformance.cases.usage import UsageError
from conformance.workers.launch import Launch

MEETING_SECONDS = 60.0
SILENT_SECONDS = 12
PROBE_SECONDS = 3


@dataclass(frozen=True, kw_only=True)
class Peer:
    """The parent process of another rank, as rank 0 sees it."""

    rank: int
    host: str
    connection: Connection

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host}"


def wait_for_peers(launch: Launch, version: str) -> Sequence[Peer]:
    """Rank 0: wait until all others have called. UsageError where one is missing or runs another version."""
    peers: dict[int, Peer] = {}
    deadline = time.monotonic() + MEETING_SECONDS
    with _listening(launch) as listener:
        while len(peers) < launch.world - 1:
            listener.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                peer, other = _accepted(listener, launch)
            except TimeoutError:
                raise UsageError(_absent(launch, peers)) from None
            except (AuthenticationError, EOFError, OSError):  # somebody else's
                continue
            if other != (version, launch.world):
                raise UsageError(_different(peer, other, (version, launch.world)))
            if peer.rank in peers or peer.rank == 0:
                raise UsageError(f"Two processes say that they are rank {peer.rank}: each needs a number of its own.")
            peers[peer.rank] = peer
    return [peers[rank] for rank in sorted(peers)]


def call(launch: Launch, version: str) -> Connection:
    """Any other rank: call rank 0. UsageError where nobody answers."""
    deadline = time.monotonic() + MEETING_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError, EOFError):
            called = socket.create_connection((launch.host, launch.meeting_port), timeout=PROBE_SECONDS)
            called.settimeout(None)
            connection = _watched(called)
            answer_challenge(connection, _key(launch))
            deliver_challenge(connection, _key(launch))
            connection.send((launch.rank, socket.gethostname(), (version, launch.world)))
            return connection
        time.sleep(0.2)
    raise UsageError(
        f"Rank 0 does not answer at {launch.host}:{launch.meeting_port} within {MEETING_SECONDS:g} seconds: every "
        "process must run the same command with the same launcher."
    )


def _listening(launch: Launch) -> socket.socket:
    try:
        return socket.create_server((launch.host, launch.meeting_port), backlog=launch.world)
    except OSError as failure:
        raise UsageError(
            f"Rank 0 cannot listen at {launch.host}:{launch.meeting_port} ({failure.strerror or failure}): the port "
            "above that of the launcher must be free."
        ) from None


def _accepted(listener: socket.socket, launch: Launch) -> tuple[Peer, Any]:
    called, _ = listener.accept()
    called.settimeout(None)
    connection = _watched(called)
    deliver_challenge(connection, _key(launch))
    answer_challenge(connection, _key(launch))
    rank, host, other = connection.recv()
    return Peer(rank=rank, host=host, connection=connection), other


def _watched(called: socket.socket) -> Connection:
    """A connection that breaks when its partner is silent for too long."""
    called.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    called.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (
        ("TCP_KEEPIDLE", PROBE_SECONDS),
        ("TCP_KEEPINTVL", PROBE_SECONDS),
        ("TCP_KEEPCNT", SILENT_SECONDS // PROBE_SECONDS - 1),
        ("TCP_USER_TIMEOUT", 1000 * SILENT_SECONDS),
    ):
        if hasattr(socket, name):
            called.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return Connection(called.detach())


def _key(launch: Launch) -> bytes:
    """Keeps strangers that call by mistake away, nobody else."""
    return hashlib.sha256(f"shardproof {launch.host}:{launch.port}".encode()).digest()


def _absent(launch: Launch, peers: dict[int, Peer]) -> str:
    absent = [str(rank) for rank in range(1, launch.world) if rank not in peers]
    return (
        f"Of {launch.world} processes {len(peers) + 1} have met at {launch.host}:{launch.meeting_port} within "
        f"{MEETING_SECONDS:g} seconds; rank {', '.join(absent)} is missing."
    )


def _different(peer: Peer, other: tuple[str, int], own: tuple[str, int]) -> str:
    if other[1] != own[1]:
        return f"{peer} was started in a world of {other[1]}, rank 0 in one of {own[1]}.".capitalize()
    return f"{peer} runs another version of shardproof or of its suites than rank 0: install the same.".capitalize()
