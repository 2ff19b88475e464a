"""The picture of compiled plans: what a device holds beside what its chip has, and what it sends along each axis."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.scale.record import ScaleRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_SHARE = 0.01  # of a bar
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999")  # Okabe and Ito


def draw(records: Sequence[ScaleRecord], path: Path) -> None:
    """Two panels: bytes of memory by kind, bytes on the wire by axes; one bar for each plan and mesh."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "shardproof"  # the same picture has the same bytes
    from matplotlib import pyplot

    with pyplot.rc_context({"font.size": 11}):
        figure, (memory, wire) = pyplot.subplots(2, 1, figsize=(9, 2.6 + 1.1 * len(records)))
        _bars(memory, records, [_memory(record) for record in records])
        for place, record in enumerate(records):
            if record.capacity_bytes:
                usable = record.capacity_bytes * (1 - record.margin) / 2**30
                memory.plot([usable, usable], [place - 0.4, place + 0.4], color="black", linewidth=2)
        memory.set_xlabel("GiB on a device; the black line is what the chip has, less the margin")
        _bars(wire, records, [_wire(record) for record in records])
        wire.set_xlabel("GiB that a device sends in a step")
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def _bars(pane: Axes, records: Sequence[ScaleRecord], parts: Sequence[dict[str, float]]) -> None:
    names = list(dict.fromkeys(name for part in parts for name in part))
    for place, part in enumerate(parts):
        start = 0.0
        for name, size in part.items():
            pane.barh(place, size, left=start, color=COLOURS[names.index(name) % len(COLOURS)], edgecolor="white")
            start += size
    for number, name in enumerate(names):
        pane.barh(0, 0, color=COLOURS[number % len(COLOURS)], label=name)
    labels = [f"{record.plan}, {record.framework}\n{record.mesh}" for record in records]
    pane.set_yticks(range(len(records)), labels, fontsize=9)
    pane.invert_yaxis()
    pane.spines[["top", "right"]].set_visible(False)
    if names:
        pane.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _memory(record: ScaleRecord) -> dict[str, float]:
    kinds = dict(record.held_bytes)
    if record.temporary_bytes is not None:
        kinds["temporaries"] = record.temporary_bytes
    return {kind: size / 2**30 for kind, size in kinds.items() if size > 2**20}


def _wire(record: ScaleRecord) -> dict[str, float]:
    """By axes, at the level that is nearest to the chip."""
    total: dict[str, float] = {}
    for each in record.collectives:
        if each.level == record.level:
            name = "+".join(each.axes)
            total[name] = total.get(name, 0.0) + each.wire_bytes / 2**30
    return _large_ones(total)


def _large_ones(parts: dict[str, float]) -> dict[str, float]:
    """The parts that can be seen; all others together."""
    least = LEAST_SHARE * sum(parts.values())
    others = sum(size for size in parts.values() if size < least)
    return {name: size for name, size in parts.items() if size >= least} | ({"others": others} if others else {})
