"""Pictures of a profile: work and memory over the mesh, who sends to whom, bytes by axis, and the step over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.contract.mesh import Mesh
from conformance.profile.record import ProfileRecord
from conformance.report.scale_picture import COLOURS
from conformance.workers.jobs import RankOperation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_DRAWN = 32  # ranks
COMPUTES, SENDS = COLOURS[0], COLOURS[1]


def draw(record: ProfileRecord, operations: Sequence[RankOperation], path: Path) -> None:
    """Four panels, one below the other, so that they are readable on a phone."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "shardproof"  # the same picture has the same bytes
    from matplotlib import pyplot

    mesh = Mesh.parse(record.mesh)
    with pyplot.rc_context({"font.size": 12}):
        figure, panes = pyplot.subplots(4, 1, figsize=(6.5, 19), height_ratios=(1, 1.6, 0.8, 1.2), layout="constrained")
        _utilisation(panes[0], record, mesh)
        _graph(panes[1], record, mesh)
        _bytes(panes[2], record)
        _timeline(panes[3], operations, record)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def _utilisation(pane: Axes, record: ProfileRecord, mesh: Mesh) -> None:
    """A square for each rank, rows along the outer axes and columns along the last one."""
    values = record.flops or record.held_bytes
    what = "products in a step" if record.flops else "bytes of state"
    columns = mesh.shape[-1]
    rows = math.ceil(mesh.devices / columns)
    most = max(values.values(), default=1) or 1
    cells = [[values.get(row * columns + column, 0) / most for column in range(columns)] for row in range(rows)]
    pane.imshow(cells, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for row in range(rows):
        for column in range(columns):
            ink = "black" if cells[row][column] > 0.5 else "white"
            label = f"{row * columns + column}\n{cells[row][column]:.0%}"
            pane.text(column, row, label, ha="center", va="center", color=ink, fontsize=10)
    pane.set_xticks(range(columns), [f"{mesh.axes[-1]} {column}" for column in range(columns)])
    pane.set_yticks(range(rows), [_outer(mesh, row * columns) for row in range(rows)])
    pane.set_title(f"{what.capitalize()} of each rank,\nby those of the busiest", loc="left")


def _outer(mesh: Mesh, rank: int) -> str:
    place = mesh.coordinates(rank)
    return ", ".join(f"{axis} {place[axis]}" for axis in mesh.axes[:-1])


def _graph(pane: Axes, record: ProfileRecord, mesh: Mesh) -> None:
    """Ranks on a circle; a line joins two that are in one group, the wider the more is sent over its axes."""
    many = min(mesh.devices, MOST_DRAWN)
    places = [(math.cos(2 * math.pi * i / many), math.sin(2 * math.pi * i / many)) for i in range(many)]
    most = max((each.wire_bytes for each in record.axes), default=1) or 1
    shown = [each for each in record.axes if "+" not in each.axes and each.axes in mesh.axes]
    for number, each in enumerate(shown):
        colour = COLOURS[number % len(COLOURS)]
        for group in mesh.groups(each.axes):
            for one, other in zip(group, [*group[1:], group[0]], strict=True):
                if one < many and other < many and one != other:
                    pane.plot(*zip(places[one], places[other], strict=True), color=colour,
                              linewidth=0.8 + 4 * each.wire_bytes / most, alpha=0.7, zorder=1)  # fmt: skip
        pane.plot([], [], color=colour, linewidth=3, label=each.axes)
    for rank, (x, y) in enumerate(places):
        pane.scatter([x], [y], s=380, color="white", edgecolor="black", zorder=2)
        pane.text(x, y, str(rank), ha="center", va="center", fontsize=10, zorder=3)
    pane.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")  # two ranks alone lie on a line
    pane.set_axis_off()
    left_out = f" (the first {many} of {mesh.devices})" if many < mesh.devices else ""
    pane.set_title(f"Who sends to whom around rings of one axis{left_out};\nwider lines send more", loc="left")
    if shown:
        pane.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3)


def _bytes(pane: Axes, record: ProfileRecord) -> None:
    names = [each.axes for each in record.axes]
    sizes = [each.wire_bytes / 2**10 for each in record.axes]
    pane.barh(range(len(names)), sizes, color=SENDS)
    pane.set_yticks(range(len(names)), names)
    pane.invert_yaxis()
    pane.set_xlabel("KiB on the wire, of the rank that sends most")
    pane.spines[["top", "right"]].set_visible(False)
    pane.set_title("Bytes by axes in a step" if names else "A step sends nothing, or it is not known", loc="left")


def _timeline(pane: Axes, operations: Sequence[RankOperation], record: ProfileRecord) -> None:
    """A lane for each rank: what it computed, and where it was in a collective."""
    for sends, colour, name in ((False, COMPUTES, "computes"), (True, SENDS, "in a collective")):
        for rank in range(min(Mesh.parse(record.mesh).devices, MOST_DRAWN)):
            own = [each for each in operations if each.rank == rank and each.communicates == sends]
            bars: Any = [(each.start_seconds * 1e3, max(each.seconds, 0) * 1e3) for each in own]
            pane.broken_barh(bars, (rank - 0.4, 0.8), color=colour, linewidth=0)
        pane.barh(0, 0, color=colour, label=name)
    pane.invert_yaxis()
    pane.set_xlabel("milliseconds")
    pane.set_ylabel("rank")
    pane.spines[["top", "right"]].set_visible(False)
    pane.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    pane.set_title(f"One step on {record.devices} devices", loc="left")
