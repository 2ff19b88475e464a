"""Profiling: some steps of a case timed, one of them watched by the framework's profiler, and its collectives read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

from conformance.contract.implementation import Traffic
from conformance.workers.buffers import total
from conformance.workers.instance import copied
from conformance.workers.jobs import Profiled, RankOperation
from conformance.workers.platform import TracedStep

if TYPE_CHECKING:
    from conformance.workers.execute import Execution


def profiled(execution: Execution, repeats: int) -> Profiled:
    """Of one process; in a torch fleet every rank has its own part."""
    instance, platform, case = execution.instance, execution.platform, execution.case
    step, batch = execution.implementation.step, execution.batches[0]
    state, seconds = _timed(execution, repeats)
    held = total(instance.buffers(state))
    platform.barrier()
    operations = platform.profiled(step, state, copied(batch), case)
    watched = platform.watch(execution.warm, instance.placed(execution.parameters), copied(batch), case)[1]
    peak = platform.peak_bytes(step, instance.placed(execution.parameters), batch)
    phases = {name: execution.clock.shortest[name] for name in ("place", "compile") if name in execution.clock.shortest}
    return Profiled(
        seconds=phases | {"step": median(seconds)},
        operations=operations,
        traffic=_traffic(watched),
        unwatched=watched.unwatched or watched.unseen.get("collectives", ""),
        flops=_flops(watched, case.mesh.devices),
        held_bytes=held,
        peak_bytes=peak,
        partitioned=watched.traffic is None and watched.partitioned is not None,
        planned=execution.implementation.timeline(),
    )


def _traffic(watched: TracedStep) -> tuple[Traffic, ...] | None:
    """As the program says; of an automatic one as its partitioner chose."""
    if watched.traffic is not None or watched.partitioned is None:
        return watched.traffic
    return tuple(
        Traffic(
            kind=each.kind, axes=each.axes, phase=each.phase, calls=each.calls, bytes=each.payload_bytes,
            dtype=each.dtype,
        )
        for each in watched.partitioned.sent
    )  # fmt: skip


def _flops(watched: TracedStep, devices: int) -> Mapping[int, int]:
    """The same of matrix products, rank by rank: all ranks run the partitioned program."""
    if watched.flops is None and watched.partitioned is not None:
        return dict.fromkeys(range(devices), watched.partitioned.flops)
    return watched.flops or {}


def _timed(execution: Execution, repeats: int) -> tuple[Any, list[float]]:
    """(the last state, seconds of each step); the step before them, which may compile, is not timed."""
    instance, step, batch = execution.instance, execution.implementation.step, execution.batches[0]
    state, _ = instance.stepped(instance.placed(execution.parameters), batch)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        state, _ = instance.settled(step(state, copied(batch)))
        seconds.append(time.perf_counter() - started)
    return state, seconds


def together(parts: list[Profiled]) -> Profiled:
    """What all processes saw; each phase lasts as long as it does on the slowest."""
    first = max(parts, key=lambda part: sum(each.bytes for each in part.traffic or ()))  # the rank that sends most
    flops = {rank: number for part in parts for rank, number in part.flops.items()}
    held = {rank: size for part in parts for rank, size in part.held_bytes.items()}
    return Profiled(
        seconds={name: max(part.seconds.get(name, 0.0) for part in parts) for name in first.seconds},
        operations=_from_zero([operation for part in parts for operation in part.operations]),
        traffic=first.traffic,
        unwatched=first.unwatched,
        flops=flops,
        held_bytes=held,
        peak_bytes=first.peak_bytes,
        partitioned=first.partitioned,
        planned=first.planned,
    )


def _from_zero(operations: list[RankOperation]) -> tuple[RankOperation, ...]:
    """Starts counted from the first of any rank: all clocks are those of one machine."""
    start = min((operation.start_seconds for operation in operations), default=0.0)
    moved = (
        RankOperation(
            rank=each.rank, name=each.name, communicates=each.communicates, seconds=each.seconds,
            start_seconds=each.start_seconds - start,
        )
        for each in operations
    )  # fmt: skip
    return tuple(sorted(moved, key=lambda operation: operation.start_seconds))
