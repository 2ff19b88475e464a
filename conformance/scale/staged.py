"""The record of a pipeline: memory of the rank that needs most, bytes of the one that sends most, messages included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from conformance.contract.mesh import Mesh
from conformance.scale.program import StageProgram
from conformance.scale.record import Collective, Finding, Roofline, ScaleRecord, StageBytes, busiest_sender
from conformance.scale.roofline import roofline
from conformance.targets.chip import Chip
from conformance.traffic.collective_op import Buffer, Level

AXES = ("pipeline",)
Compiled = tuple[StageProgram, ScaleRecord]


def of_stages(compiled: Sequence[Compiled], mesh: Mesh, chip: Chip | None) -> ScaleRecord:
    """Memory and operations of the rank that needs most, collectives of the one that sends most; findings of all."""
    _, record = max(compiled, key=lambda pair: _size(pair[1]))
    stages = tuple(_bytes(*pair) for pair in compiled)
    sender = compiled[stages.index(busiest_sender(stages))]
    _, last = compiled[-1]
    return record.model_copy(
        update={
            "mesh": str(mesh),
            "devices": mesh.devices,
            "collectives": tuple(_sent(*sender)),
            "roofline": _slowest(compiled, mesh, chip) if chip else None,
            "findings": tuple(finding for pair in compiled for finding in _found(*pair)),
            "stages": stages,
            "cpu_seconds": last.cpu_seconds,  # both are of the process so far
            "peak_rss_bytes": last.peak_rss_bytes,
        }
    )


def _size(record: ScaleRecord) -> int:
    return record.needed_bytes if record.needed_bytes is not None else sum(record.held_bytes.values())


def _sent(stage: StageProgram, record: ScaleRecord) -> Iterator[Collective]:
    """What is sent between the devices of a rank, and to the ranks beside it, at every level."""
    yield from record.collectives
    levels: tuple[Level, ...] = ("partitioned", "target") if record.level == "target" else ("partitioned",)
    yield from (message(stage, level) for level in levels if stage.messages)


def message(stage: StageProgram, level: Level) -> Collective:
    """All messages of one device in a step: activations up, gradients down."""
    payload = stage.messages * Buffer(dtype=stage.message_dtype, elements=stage.message_elements).bytes
    return Collective(
        level=level, phase=None, kind="permute", axes=AXES, dtype=stage.message_dtype, tensor="", where="schedule",
        launches=stage.messages, payload_bytes=payload, wire_bytes=payload, whole=True,
    )  # fmt: skip


def _slowest(compiled: Sequence[Compiled], mesh: Mesh, chip: Chip) -> Roofline:
    """A step is as slow as its slowest rank in each part; the wait for the first and last microbatch is not in it."""
    every = [_roofline(*pair, mesh, chip) for pair in compiled]
    every_axis = dict.fromkeys(axes for each in every for axes in each.communication_seconds)
    return Roofline(
        compute_seconds=max(each.compute_seconds for each in every),
        communication_seconds={
            axes: max(each.communication_seconds.get(axes, 0.0) for each in every) for axes in every_axis
        },
        tokens=every[0].tokens,
    )


def _roofline(stage: StageProgram, record: ScaleRecord, mesh: Mesh, chip: Chip) -> Roofline:
    """On the whole mesh, which says what link an axis crosses."""
    assert record.roofline is not None
    nearest = [each for each in _sent(stage, record) if each.level == record.level]
    return roofline(record.flops, nearest, mesh, chip, record.roofline.tokens)


def _found(stage: StageProgram, record: ScaleRecord) -> Iterator[Finding]:
    where = f"Rank {stage.rank} of the pipeline: "
    yield from (finding.model_copy(update={"sentence": where + finding.sentence}) for finding in record.findings)


def _bytes(stage: StageProgram, record: ScaleRecord) -> StageBytes:
    return StageBytes(
        rank=stage.rank,
        ranks=stage.ranks,
        layers=stage.layers,
        parameter_bytes=record.parameter_bytes,
        optimizer_bytes=record.optimizer_bytes,
        temporary_bytes=record.temporary_bytes,
        needed_bytes=record.needed_bytes,
        flops=record.flops,
        sent_bytes=sum(record.wire_bytes().values()),
        message_bytes=message(stage, record.level).wire_bytes if stage.messages else 0,
        messages=stage.messages,
        largest_all_reduce=record.largest_all_reduce,
    )
