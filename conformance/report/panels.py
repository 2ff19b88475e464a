"""Panels of pictures that several reports draw: a mesh, who sends to whom, bytes by axis, and what a rank does when."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.contract.mesh import Mesh
from conformance.contract.timeline import Timeline
from conformance.report.scale_picture import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_DRAWN = 32  # ranks
CHORD, BENT = 24, 0.5  # parts of a curve, and how far from the centre it is drawn to
WIDTH = 6.5  # inches: a phone shows all of it, and its letters are still read
KINDS = {"forward": COLOURS[0], "backward": COLOURS[1], "weights": COLOURS[2]}
Span = tuple[float, float]  # start and length


@contextmanager
def drawn(path: Path, heights: Sequence[float]) -> Iterator[list[Axes]]:
    """Panels one below the other, with heights in inches; the same picture has the same bytes."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "shardproof"
    from matplotlib import pyplot

    with pyplot.rc_context({"font.size": 12}):
        figure, panes = pyplot.subplots(
            len(heights), 1, figsize=(WIDTH, sum(heights)), height_ratios=heights, layout="constrained", squeeze=False
        )
        yield list(panes[:, 0])
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def mesh_map(pane: Axes, mesh: Mesh, values: Mapping[int, float], title: str) -> None:
    """A square for each rank, rows along the outer axes and columns along the last one; shares of the largest."""
    columns = mesh.shape[-1]
    rows = min(math.ceil(mesh.devices / columns), max(1, MOST_DRAWN // columns))
    most = max(values.values(), default=1) or 1
    cells = [[values.get(row * columns + column, 0) / most for column in range(columns)] for row in range(rows)]
    pane.imshow(cells, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for row in range(rows):
        for column in range(columns):
            ink = "black" if cells[row][column] > 0.5 else "white"
            label = f"{row * columns + column}\n{cells[row][column]:.0%}"
            pane.text(column, row, label, ha="center", va="center", color=ink, fontsize=10)
    pane.set_xticks(range(columns), [f"{mesh.axes[-1]} {column}" if columns < 5 else str(column) for column in
                                     range(columns)])  # fmt: skip
    pane.set_yticks(range(rows), [_outer(mesh, row * columns) for row in range(rows)])
    pane.set_title(title, loc="left")


def _outer(mesh: Mesh, rank: int) -> str:
    place = mesh.coordinates(rank)
    return ", ".join(f"{axis} {place[axis]}" for axis in mesh.axes[:-1])


def sending(pane: Axes, mesh: Mesh, sent: Mapping[str, int]) -> None:
    """Ranks on a circle; a curve joins neighbours of a group, the wider the more is sent. `sent`: axis -> bytes."""
    many = min(mesh.devices, MOST_DRAWN)
    places = [(math.cos(2 * math.pi * i / many), math.sin(2 * math.pi * i / many)) for i in range(many)]
    shown = {axis: size for axis, size in sent.items() if axis in mesh.axes}
    most = max(shown.values(), default=1) or 1
    for number, (axis, size) in enumerate(shown.items()):
        colour = COLOURS[number % len(COLOURS)]
        pairs = list(_rings(mesh, axis, many))
        for rank, neighbour in pairs:
            bent = 1.0 if abs(rank - neighbour) in (1, many - 1) else BENT
            pane.plot(*chord(places[rank], places[neighbour], bent), color=colour, linewidth=0.8 + 4 * size / most,
                      alpha=0.7, zorder=1)  # fmt: skip
        pane.plot([], [], color=colour, linewidth=3, label=axis if pairs else f"{axis}, beyond these")
    for rank, (x, y) in enumerate(places):
        pane.scatter([x], [y], s=380, color="white", edgecolor="black", zorder=2)
        pane.text(x, y, str(rank), ha="center", va="center", fontsize=10, zorder=3)
    pane.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")  # two ranks alone lie on a line
    pane.set_axis_off()
    left_out = f"; ranks 0 to {many - 1} of {mesh.devices:,}" if many < mesh.devices else ""
    pane.set_title(f"Who sends to whom around rings of one axis:\nwider lines send more{left_out}", loc="left")
    if shown:
        pane.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3)


def chord(start: tuple[float, float], end: tuple[float, float], bent: float = BENT) -> tuple[list[float], list[float]]:
    """(x, y) of a curve between two places of a circle, bent inwards so that it passes by the places between them."""
    middle = [bent * (a + b) / 2 for a, b in zip(start, end, strict=True)]
    shares = [step / CHORD for step in range(CHORD + 1)]
    points = [
        [(1 - s) ** 2 * a + 2 * s * (1 - s) * m + s**2 * b for a, m, b in zip(start, middle, end, strict=True)]
        for s in shares
    ]
    return [x for x, _ in points], [y for _, y in points]


def _rings(mesh: Mesh, axis: str, many: int) -> Iterator[tuple[int, int]]:
    """Pairs of neighbours in the groups of an axis, of the ranks that are drawn."""
    for group in mesh.groups(axis):
        for rank, neighbour in zip(group, [*group[1:], group[0]], strict=True):
            if rank < many and neighbour < many and rank != neighbour:
                yield rank, neighbour


def bars(pane: Axes, sizes: Mapping[str, float], label: str, title: str) -> None:
    """One bar for each name, the first on top, its value at its end."""
    pane.barh(range(len(sizes)), list(sizes.values()), color=COLOURS[1])
    pane.set_yticks(range(len(sizes)), list(sizes))
    for place, value in enumerate(sizes.values()):
        pane.text(value, place, f" {value:,.0f}" if value >= 100 else f" {value:.3g}", va="center", fontsize=10)
    pane.set_xlim(right=1.15 * max(sizes.values(), default=1) or 1)
    pane.invert_yaxis()
    pane.set_xlabel(label)
    pane.spines[["top", "right"]].set_visible(False)
    pane.set_title(title, loc="left")


def lanes(pane: Axes, ranks: Sequence[Mapping[str, Sequence[Span]]], colours: Mapping[str, str], unit: str) -> None:
    """A lane for each rank: spans by what it does; what lies bare is idle."""
    for what, colour in colours.items():
        for rank, spans in enumerate(ranks):
            own: Any = list(spans.get(what, ()))
            pane.broken_barh(own, (rank - 0.4, 0.8), color=colour, linewidth=0)
        pane.barh(0, 0, color=colour, label=what)
    pane.invert_yaxis()
    pane.set_yticks(range(len(ranks)))
    pane.set_xlabel(unit)
    pane.set_ylabel("rank")
    pane.spines[["top", "right"]].set_visible(False)
    pane.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=len(colours))


def planned(pane: Axes, timeline: Timeline) -> None:
    """What each rank of a pipeline is to do when."""
    ranks = [
        {kind: [(bar.start, bar.end - bar.start) for bar in lane.bars if bar.kind == kind] for kind in KINDS}
        for lane in timeline.lanes
    ]
    shown = {kind: colour for kind, colour in KINDS.items() if any(rank[kind] for rank in ranks)}
    lanes(pane, ranks, shown, timeline.unit)
    span = max((bar.end for lane in timeline.lanes for bar in lane.bars), default=1.0)
    busy = sum(bar.end - bar.start for lane in timeline.lanes for bar in lane.bars)
    idle = 1 - busy / (span * len(timeline.lanes))
    pane.set_title(f"Planned: {timeline.title};\nidle {idle:.0%} of the time", loc="left")
