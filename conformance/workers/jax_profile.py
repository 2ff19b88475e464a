"""What `jax.profiler` saw of a step on host devices: one event for each operation of the program on each device.

An operation has the name that its program gave it, `ppermute.3` or `psum.7`: that it communicates, the opcode of the
compiled program says.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any, NamedTuple

import jax

from conformance.contract.mesh import Mesh
from conformance.traffic.hlo_module import read_module
from conformance.traffic.hlo_reader import is_collective
from conformance.workers.jobs import RankOperation


def operations(run: Callable[[], Any], mesh: Mesh) -> tuple[RankOperation, ...]:
    """Run a step under the profiler; operations outside the mesh, and those without a device, are left out."""
    rank_of = {device: rank for rank, device in enumerate(mesh.device_order)}
    with tempfile.TemporaryDirectory(prefix="shardproof-profile-") as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(run())
        seen = [
            event for path in Path(folder).rglob("*.xplane.pb") for event in _of_file(path) if event.device in rank_of
        ]
    collectives = _collectives({event.module for event in seen})
    return tuple(
        RankOperation(
            rank=rank_of[event.device],
            name=event.name,
            communicates=(event.module, event.name) in collectives,
            start_seconds=event.start_ns / 1e9,
            seconds=event.duration_ns / 1e9,
        )
        for event in seen
    )


class _Event(NamedTuple):
    module: str
    name: str
    device: int
    start_ns: float
    duration_ns: float


def _of_file(path: Path) -> Iterator[_Event]:
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                stats = dict(event.stats)
                if "hlo_op" in stats and "device_ordinal" in stats:
                    named = str(stats.get("hlo_module", "")), str(stats["hlo_op"]), int(stats["device_ordinal"])
                    yield _Event(*named, event.start_ns, event.duration_ns)


def _collectives(modules: Set[str]) -> frozenset[tuple[str, str]]:
    """(module, instruction) of all that communicate in the compiled programs of these names, which are still there."""
    every = (module for program in jax.devices()[0].client.live_executables() for module in program.hlo_modules())
    texts = [(module.name, read_module(module.to_string())) for module in every if module.name in modules]
    return frozenset(
        (name, instruction.name)
        for name, module in texts
        for computation in module.computations.values()
        for instruction in computation.instructions.values()
        if is_collective(instruction)
    )
