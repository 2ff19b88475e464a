"""What `jax.profiler` saw of a step on host devices: one event for each operation of the program on each device."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from conformance.contract.mesh import Mesh
from conformance.workers.jobs import RankOperation

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")


def operations(run: Callable[[], Any], mesh: Mesh) -> tuple[RankOperation, ...]:
    """Run a step under the profiler; operations outside the mesh, and those without a device, are left out."""
    rank_of = {device: rank for rank, device in enumerate(mesh.device_order)}
    with tempfile.TemporaryDirectory(prefix="shardproof-profile-") as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(run())
        seen = [operation for path in Path(folder).rglob("*.xplane.pb") for operation in _of_file(path, rank_of)]
    return tuple(seen)


def _of_file(path: Path, rank_of: dict[int, int]) -> Iterator[RankOperation]:
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for event in line.events:
                stats = dict(event.stats)
                device = stats.get("device_ordinal")
                if "hlo_op" in stats and device in rank_of:
                    name = str(stats["hlo_op"])
                    yield RankOperation(
                        rank=rank_of[device],
                        name=name,
                        communicates=name.startswith(COLLECTIVES),
                        start_seconds=event.start_ns / 1e9,
                        seconds=event.duration_ns / 1e9,
                    )
