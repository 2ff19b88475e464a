"""The picture: how often what is said is right, by how surely it is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINT, SHORT = "#0072b2", "#d55e00"  # blue and vermilion differ to every eye, and in brightness too
GREY = "#555555"
Points = Sequence[tuple[float, float, int]]  # how surely, the share that is right, how many


def draw(panels: Mapping[str, Points], path: Path, *, sure: float, enough: float) -> None:
    """A panel for the axes and one for the causes, below each other; a point for each tenth of confidence."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "shardproof"  # the same picture has the same bytes
    from matplotlib import pyplot

    with pyplot.rc_context({"font.size": 13}):
        figure, axes = pyplot.subplots(len(panels), 1, figsize=(5, 4.2 * len(panels) + 1.3), squeeze=False)
        for (name, points), pane in zip(panels.items(), axes[:, 0], strict=True):
            _panel(pane, points, sure, enough)
            pane.set_title(f"{name}: {sum(many for _, _, many in points):,} said", loc="left", pad=14)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="lower left", fontsize=12)
        figure.tight_layout(rect=(0, 1.3 / figure.get_figheight(), 1, 1))
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def _panel(pane: Axes, points: Points, sure: float, enough: float) -> None:
    pane.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="as often as it is said")
    pane.plot(
        [sure, 1], [enough, enough], color=GREY, linewidth=2, label=f"{enough:.0%}, which {sure} and more promises"
    )
    pane.plot([], [], "o", color=POINT, markersize=9, label="right so often, or more (number said)")
    pane.plot([], [], "v", color=SHORT, markersize=9, label="right less often")
    for surely, share, many in points:
        short = share < (enough if surely >= sure else surely)
        pane.plot(
            [surely], [share], "v" if short else "o", color=SHORT if short else POINT, markersize=9, clip_on=False
        )
        _number(pane, (surely, share), many, below=short and share > 0.1)
    pane.set_xlim(0, 1)
    pane.set_ylim(0, 1.02)
    pane.set_ylabel("share that is right")
    pane.set_xlabel("confidence")
    pane.spines[["top", "right"]].set_visible(False)


def _number(pane: Axes, point: tuple[float, float], many: int, *, below: bool) -> None:
    """How many there are, on the side of the point that is away from the diagonal."""
    from matplotlib.patheffects import withStroke

    pane.annotate(
        f"{many:,}",
        point,
        (0, -8 if below else 7),
        textcoords="offset points",
        ha="center",
        va="top" if below else "bottom",
        fontsize=12,
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )
