"""A profile as tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from conformance.profile.record import LARGE, ProfileRecord
from conformance.records.formatting import binary_bytes, seconds

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def phases(record: ProfileRecord) -> Table:
    """Wall time by phase."""
    where = f"measured, {record.devices} devices"
    return ("phase", "wall time", "level"), [[name, seconds(value), where] for name, value in record.seconds.items()]


def axes(record: ProfileRecord) -> Table:
    """What the busiest rank sends in a step, and what of a step that would be on the chip."""
    rows = [
        [
            each.axes,
            f"{each.calls:,}",
            binary_bytes(each.payload_bytes),
            binary_bytes(each.wire_bytes),
            f"{each.modelled_seconds * 1e6:,.1f} us",
            "not known" if each.modelled_share is None else f"{each.modelled_share:.0%}",
        ]
        for each in record.axes
    ]
    head = ("axes", "calls", "payload", "on the wire", f"modelled on {record.chip}", "modelled share of a step")
    return head, rows


def devices(record: ProfileRecord) -> Table:
    """What each rank holds and computes."""
    most = max(record.flops.values(), default=0)
    rows = [
        [str(rank), binary_bytes(size), f"{record.flops[rank] / most:.0%}" if most and rank in record.flops else ""]
        for rank, size in sorted(record.held_bytes.items())
    ]
    return ("rank", "state", "products, by the busiest rank"), rows


def words(record: ProfileRecord) -> Iterator[str]:
    """What stands out."""
    if record.not_known:
        yield f"Communication is not known: {record.not_known}."
    elif not record.axes:
        yield "A step sends nothing."
    if record.partitioned:
        yield "The partitioner chose what is sent: calls, bytes and products were read from the program behind it."
    if record.share is not None:
        large = f", more than the {LARGE:.0%} that guides allow" if record.share > LARGE else ""
        yield (
            f"Modelled on {record.chip}, with products at its peak and nothing overlapped, communication is "
            f"{record.share:.0%} of a step{large}."
        )
        if large:
            yield f"Warning: most of it is over {record.axes[0].axes}; larger batches or a smaller axis would lower it."
    if record.devices == "emulated":
        yield "Measured shares are left out: emulated devices share the cores of this machine."
    if record.peak_bytes is not None:
        yield f"At its peak a device needs {binary_bytes(record.peak_bytes)}, by the compiled program."
    yield from record.of_plan
