"""Pictures: measured and predicted times over the size of the operand, and what is picked on other networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot

from suites.collectives.algorithms import ALGORITHMS
from suites.collectives.measure.comparison import Comparison
from suites.collectives.schedule import ALL_REDUCE
from suites.collectives.topology.declared import NETWORKS, SIZES
from suites.collectives.topology.prediction import predicted

COLOURS = dict(zip(ALGORITHMS, ("#0072b2", "#009e73", "#d55e00", "#cc79a7", "#e69f00"), strict=True))


def draw_measured(comparisons: Sequence[Comparison], file: Path) -> None:
    """A panel per framework and number of devices: dots are measured, lines predicted."""
    panels = list(dict.fromkeys((c.framework, c.ranks) for c in comparisons))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(3.4 * len(panels), 3.6), sharey=True, squeeze=False)
    for axis, key in zip(axes[0], panels, strict=True):
        _panel(axis, [c for c in comparisons if (c.framework, c.ranks) == key])
        axis.set_title(f"{key[0]}, {key[1]} devices", fontsize=10)
    axes[0][0].set_ylabel("seconds of an all-reduce")
    handles, labels = axes[0][-1].get_legend_handles_labels()
    title = "dots: measured, lines: predicted from messages alone"
    figure.legend(handles, labels, loc="outside lower center", ncol=6, fontsize=8, title=title, title_fontsize=8)
    figure.subplots_adjust(bottom=0.28, left=0.07, right=0.99, wspace=0.06)
    _saved(figure, file)


def _panel(axis: Any, comparisons: Sequence[Comparison]) -> None:
    sizes = [c.operand_bytes for c in comparisons]
    for name in comparisons[0].measured_seconds:
        axis.plot(sizes, [c.predicted_seconds[name] for c in comparisons], color=COLOURS[name], lw=1.2)
        measured = [c.measured_seconds[name] for c in comparisons]
        axis.plot(sizes, measured, "o", color=COLOURS[name], ms=5, label=name)
    axis.plot(sizes, [c.native_seconds for c in comparisons], "x", color="0.5", ms=5, label="native")
    _log_bytes(axis)


def draw_networks(file: Path) -> None:
    """A panel per declared network: every algorithm by the quickest one of its size."""
    figure, axes = pyplot.subplots(1, len(NETWORKS), figsize=(4 * len(NETWORKS), 3.6), sharey=True)
    for axis, (title, network) in zip(axes, NETWORKS.items(), strict=True):
        times = {size: predicted(ALL_REDUCE, network, size) for size in SIZES}
        for name in ALGORITHMS:
            relative = [times[size][name] / min(times[size].values()) for size in SIZES]
            axis.plot(SIZES, relative, color=COLOURS[name], lw=1.5, marker="o", ms=3, label=name)
        axis.set_title(title, fontsize=10)
        _log_bytes(axis)
        axis.set_ylim(0.9, 12)
        axis.set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
        axis.minorticks_off()
    axes[0].set_ylabel("predicted time by that of the quickest")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=6, fontsize=8)
    figure.subplots_adjust(bottom=0.24, left=0.07, right=0.99, wspace=0.06)
    _saved(figure, file)


def _log_bytes(axis: Any) -> None:
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    ticks = {2**10: "1 KiB", 2**16: "64 KiB", 2**22: "4 MiB", 2**28: "256 MiB"}
    low, high = axis.get_xlim()
    shown = {size: label for size, label in ticks.items() if low <= size <= high}
    axis.set_xticks(list(shown), list(shown.values()))
    axis.set_xlabel("bytes of the operand")
    axis.grid(alpha=0.25)


def _saved(figure: Any, file: Path) -> None:
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
