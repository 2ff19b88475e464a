"""The picture: how far right programs and planted errors lie from the bound, by framework and dtype."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from conformance.programs.judged import Judged
from conformance.programs.table import Count, counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RIGHT, PLANTED = "#4c78a8", "#e45756"
LOWEST = 1e-3  # what is exact is drawn here


def draw(results: Sequence[Judged], path: Path) -> None:
    """A row per framework and dtype, each program a dot at its error / bound, scattered over the height of the row."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "shardproof"  # the same picture has the same bytes
    from matplotlib import pyplot

    rows = counts(results)
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.55 * len(rows)))
    _dots(axes, results, rows)
    axes.axvline(1, color="black", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(left=LOWEST / 1.5)
    axes.set_yticks(range(len(rows)), [f"{row.framework} {row.dtype}" for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("error / bound of the worst tensor (dashed: the bound)")
    axes.scatter([], [], color=RIGHT, s=20, label="right")
    axes.scatter([], [], color=PLANTED, s=20, label="with a relative error of 1e-11 in one gradient")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _dots(axes: Axes, results: Sequence[Judged], rows: Sequence[Count]) -> None:
    rng = np.random.default_rng(0)
    for place, row in enumerate(rows):
        own = [
            result
            for result in results
            if (result.program.framework, result.program.dtype) == (row.framework, row.dtype)
        ]
        for planted, colour in ((False, RIGHT), (True, PLANTED)):
            ratios = np.array([max(result.ratio, LOWEST) for result in own if result.planted == planted])
            heights = place + rng.uniform(-0.32, 0.32, len(ratios))
            axes.scatter(ratios, heights, s=7, color=colour, alpha=0.45, linewidths=0, rasterized=False)
