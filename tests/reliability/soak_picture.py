"""The picture of a soak: memory and handles by case, rounds apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib import pyplot  # here, so that it is in memory when the first look is taken

if TYPE_CHECKING:
    from tests.reliability.soak import Look

COLOURS = {"main_bytes": "#4c78a8", "jax_bytes": "#e45756", "torch_bytes": "#54a24b"}

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "shardproof"  # the same figures give the same bytes


def draw(looks: Sequence[Look], size: int, path: Path) -> None:
    """Above resident MiB of each kind of process, below open handles of all of them."""
    cases = [look.cases for look in looks]
    figure, (above, below) = pyplot.subplots(2, sharex=True, figsize=(8, 5), height_ratios=(3, 1))
    for key, colour in COLOURS.items():
        above.plot(
            cases, [getattr(look, key) / 2**20 for look in looks], color=colour, label=key.removesuffix("_bytes")
        )
    below.plot(cases, [look.handles for look in looks], color="black")
    for axes in (above, below):
        axes.set_ylim(bottom=0)
        for end in range(size, cases[-1] + 1, size):
            axes.axvline(end, color="black", alpha=0.2, linewidth=1)
    above.set_ylabel("resident, MiB")
    above.legend(frameon=False, ncols=len(COLOURS), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    below.set_ylabel("handles")
    below.set_xlabel("cases; a line where a round ends")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
