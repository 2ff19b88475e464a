"""A profile as it is written: a step that was measured, and what its transfers would take on a named chip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from conformance.contract.implementation import Traffic
from conformance.contract.mesh import Mesh
from conformance.scale.roofline import bandwidth
from conformance.targets.chip import Chip
from conformance.traffic.wire import wire_bytes
from conformance.workers.jobs import Profiled

LARGE = 0.2  # of a step: communication that takes more is worth a warning


class AxisTraffic(BaseModel):
    """What one device sends along some axes in a step.

    payload_bytes     the larger of operand and result of each collective
    modelled_seconds  on the wire of the chip, at the bandwidth of the slowest link; modelled_share of a step there in
                      which products run at the chip's peak and nothing overlaps; None where operations are not known
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    axes: str
    calls: int
    payload_bytes: int
    wire_bytes: int
    modelled_seconds: float
    modelled_share: float | None


class ProfileRecord(BaseModel):
    """Seconds were measured on the devices that `devices` names, which share this machine's cores where emulated.

    axes      of the rank that sends most
    partitioned  whether these, and `flops`, are of the program behind the partitioner
    flops     rank -> floating-point operations of matrix products in a step; empty where they are not known
    of_plan   what a plan, of which the case is the small one, says of itself and took here, a sentence each
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    mesh: str
    devices: str
    chip: str
    seconds: dict[str, float]
    axes: tuple[AxisTraffic, ...]
    not_known: str
    partitioned: bool = False
    held_bytes: dict[int, int]
    peak_bytes: int | None
    flops: dict[int, int]
    of_plan: tuple[str, ...] = ()

    @property
    def share(self) -> float | None:
        """Of communication in a step, modelled."""
        shares = [each.modelled_share for each in self.axes]
        return None if None in shares or not shares else sum(share for share in shares if share is not None)


def recorded(case: str, mesh: Mesh, dtype: str, devices: str, chip: Chip, seen: Profiled) -> ProfileRecord:
    """The figures of one profile. Products that no rank was seen to have are not known: they lie in branches."""
    known = seen.flops if any(seen.flops.values()) else {}
    flops = max(known.values(), default=None)
    return ProfileRecord(
        case=case,
        mesh=str(mesh),
        devices=devices,
        chip=chip.name,
        seconds=dict(seen.seconds),
        axes=_by_axes(seen.traffic or (), mesh, chip, flops, dtype),
        not_known="" if seen.traffic is not None else (seen.unwatched or "its collectives are not known"),
        partitioned=seen.partitioned,
        held_bytes=dict(seen.held_bytes),
        peak_bytes=seen.peak_bytes,
        flops=dict(known),
    )


def _by_axes(
    traffic: Sequence[Traffic], mesh: Mesh, chip: Chip, flops: int | None, dtype: str
) -> tuple[AxisTraffic, ...]:
    calls, payload, wire = Counter[str](), Counter[str](), Counter[str]()
    for each in traffic:
        name, size = "+".join(each.axes), 1
        for axis in each.axes:
            size *= mesh.size(axis)
        calls[name] += each.calls
        payload[name] += each.bytes
        wire[name] += wire_bytes(each.kind, each.bytes, size)
    seconds = {name: size / bandwidth(name.split("+"), mesh, chip) for name, size in wire.items()}
    compute = None if flops is None else flops / chip.peak(dtype)
    step = None if compute is None else compute + sum(seconds.values())
    return tuple(
        AxisTraffic(
            axes=name,
            calls=calls[name],
            payload_bytes=payload[name],
            wire_bytes=wire[name],
            modelled_seconds=seconds[name],
            modelled_share=seconds[name] / step if step else None,
        )
        for name in sorted(wire, key=lambda name: -seconds[name])
    )
