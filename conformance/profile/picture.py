"""Pictures of a profile: work and memory over the mesh, who sends to whom, bytes by axis, and the step over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.contract.mesh import Mesh
from conformance.contract.timeline import Timeline
from conformance.profile.record import ProfileRecord
from conformance.report import panels
from conformance.report.scale_picture import COLOURS
from conformance.workers.jobs import RankOperation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COMPUTES, SENDS = COLOURS[0], COLOURS[1]


def draw(
    record: ProfileRecord, operations: Sequence[RankOperation], path: Path, planned: Timeline | None = None
) -> None:
    """Panels one below the other; of a pipeline its planned timeline above what was measured."""
    mesh = Mesh.parse(record.mesh)
    heights = [4.0, 6.5, 3.3, *([4.2] if planned else ()), 4.6]
    with panels.drawn(path, heights) as panes:
        values = record.flops or record.held_bytes
        what = "Products in a step" if record.flops else "Bytes of state"
        panels.mesh_map(panes[0], mesh, values, f"{what} of each rank,\nby those of the busiest")
        panels.sending(panes[1], mesh, {each.axes: each.wire_bytes for each in record.axes})
        sizes = {each.axes: each.wire_bytes / 2**10 for each in record.axes}
        title = "Bytes by axes in a step" if sizes else "A step sends nothing, or it is not known"
        panels.bars(panes[2], sizes, "KiB on the wire, of the rank that sends most", title)
        if planned:
            panels.planned(panes[3], planned)
        _measured(panes[-1], operations, record)


def _measured(pane: Axes, operations: Sequence[RankOperation], record: ProfileRecord) -> None:
    """A lane for each rank: what it computed, and where it was in a collective."""
    ranks: list[dict[str, list[panels.Span]]] = [
        {"computes": [], "in a collective": []} for _ in range(min(Mesh.parse(record.mesh).devices, panels.MOST_DRAWN))
    ]
    for each in operations:
        if each.rank < len(ranks):
            own = ranks[each.rank]["in a collective" if each.communicates else "computes"]
            own.append((each.start_seconds * 1e3, max(each.seconds, 0) * 1e3))
    panels.lanes(pane, ranks, {"computes": COMPUTES, "in a collective": SENDS}, "milliseconds")
    pane.set_title(f"Measured: one step on {record.devices} devices", loc="left")
