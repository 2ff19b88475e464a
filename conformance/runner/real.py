"""Real devices: the world that a run has, and which of its cases fit. All is settled before the first case."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from conformance.cases.case import Case
from conformance.cases.selection import framework_for
from conformance.cases.usage import UsageError
from conformance.records.environment import content_hash
from conformance.records.formatting import count
from conformance.workers.connections import WorkerFailed
from conformance.workers.follower import Follower
from conformance.workers.launch import Launch, launched
from conformance.workers.meeting import call, wait_for_peers
from conformance.workers.pool import Workers
from conformance.workers.spot import Visible
from conformance.workers.world import World


def follows() -> Launch | None:
    """The launch of this process, if it is one of those that do what rank 0 says."""
    launch = launched(os.environ)
    return launch if launch is not None and launch.rank > 0 else None


def follow(launch: Launch, folder: Path | None) -> int:
    """Serve rank 0 until it is done -> the exit status."""
    connection = call(launch, content_hash())
    print(f"Rank {launch.rank} of {launch.world} on {socket.gethostname()}: rank 0 at {launch.host} has answered.")
    with Workers() as workers:
        return Follower(launch, connection, workers, folder).run()


@contextmanager
def real_workers() -> Iterator[Workers]:
    """Workers on the real devices of this machine, or of all processes that were launched with this one."""
    launch = launched(os.environ)
    if launch is None:
        with Workers() as workers:
            yield workers
        return
    world = World(launch, wait_for_peers(launch, content_hash()))
    hosts = sorted({socket.gethostname(), *(peer.host for peer in world.peers)})
    print(f"{launch.world} processes on {count(len(hosts), 'host')} ({', '.join(hosts)}).", file=sys.stderr)
    with Workers(world=world) as workers:
        yield workers


def fitting(cases: Sequence[Case], workers: Workers, *, every: bool) -> list[Case]:
    """The cases whose meshes fit the devices. UsageError if none does, or if `every` one must."""
    kept: list[Case] = []
    misfits: list[str] = []
    for case in cases:
        visible = _visible(workers, framework_for(case))
        sentence = _misfit(case, visible, workers.world)
        kept += [] if sentence else [case]
        misfits += [sentence] if sentence else []
    if misfits and (every or not kept):
        raise UsageError(misfits[0])
    if misfits:
        print(f"{count(len(misfits), 'case')} left out, the first since: {misfits[0]}", file=sys.stderr)
    return kept


def _visible(workers: Workers, framework: str) -> Visible:
    try:
        return workers.visible(framework)
    except WorkerFailed as failure:
        raise UsageError(f"The real devices of {framework} cannot be used: {failure}") from failure


def _misfit(case: Case, visible: Visible, world: World | None) -> str:
    """One sentence where a mesh does not fit, else nothing."""
    needed, most = case.mesh.devices, visible.most
    shown = f"{count(most or 0, 'device')} ({visible.platform})"
    if world is not None and needed != most:
        processes = f"the {world.launch.world} processes that were launched"
        return (
            f"The mesh {case.mesh} has {count(needed, 'device')}, where {processes} have {shown} together: in a world "
            "the mesh must take all of them."
        )
    if most is not None and needed > most:
        more = " (XLA_FLAGS=--xla_force_host_platform_device_count=N gives more)" if visible.platform == "cpu" else ""
        return f"The mesh {case.mesh} needs {count(needed, 'device')}, and this machine shows {shown}{more}."
    return ""
