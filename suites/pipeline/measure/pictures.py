"""The figures as pictures (SVG)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from suites.pipeline.measure.figures import Balance, Bubble, Memory

SHADES = ("#9aa5ae", "#5b7f9f", "#2f6db5", "#b4532a")  # formula, simulations, measurement
COLOURS = {"gpipe": "#b4532a", "1f1b": "#2f6db5", "interleaved": "#15803d", "zb-h1": "#8a6a1f", "zbv": "#7c3aed"}


def draw_memory(figures: Sequence[Memory], path: Path) -> None:
    """Live microbatches by rank, bytes that torch kept on the first rank, bytes of the compiled JAX program."""
    figure, (by_rank, kept, peak) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    most = max(row.microbatches for row in figures)
    for row in figures:
        if row.microbatches == most:
            by_rank.plot(range(len(row.held)), row.held, "o-", color=COLOURS[row.schedule], label=row.schedule)
    by_rank.set(title=f"Live at once, {most} microbatches", xlabel="rank", ylabel="microbatches (by chunk)")
    by_rank.set_xticks(range(len(figures[0].held)))
    for schedule in dict.fromkeys(row.schedule for row in figures):
        own = [row for row in figures if row.schedule == schedule]
        numbers = [row.microbatches for row in own]
        kept.plot(numbers, [max(row.kept_bytes) / 2**20 for row in own], "o-", color=COLOURS[schedule], label=schedule)
        peak.plot(numbers, [row.peak_bytes / 2**20 for row in own], "o-", color=COLOURS[schedule], label=schedule)
    kept.set(title="Kept by autograd (torch), busiest rank", xlabel="microbatches", ylabel="MiB")
    peak.set(title="Peak of the compiled step (JAX), per device", xlabel="microbatches", ylabel="MiB")
    for axes in (by_rank, kept, peak):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    by_rank.legend(frameon=False)
    _save(figure, path)


def draw_bubbles(figures: Sequence[Bubble], path: Path) -> None:
    """Formula, simulation and measurement side by side, one panel per schedule."""
    schedules = list(dict.fromkeys(row.schedule for row in figures))
    figure, panels = plt.subplots(1, len(schedules), figsize=(13, 3.6), sharey=True, layout="constrained")
    kinds = ("formula", "simulated", "simulated_at_measured", "measured")
    labels = ("formula", "simulated", "simulated, measured costs", "measured")
    for panel, schedule in zip(panels, schedules, strict=True):
        own = [row for row in figures if row.schedule == schedule]
        for number, (kind, label) in enumerate(zip(kinds, labels, strict=True)):
            values = [getattr(row, kind) or 0.0 for row in own]
            places = [place + 0.2 * number for place in range(len(own))]
            panel.bar(
                places, values, width=0.19, label=label, color=("#9aa5ae", "#5b7f9f", "#2f6db5", "#b4532a")[number]
            )
        panel.set_xticks([place + 0.3 for place in range(len(own))], [str(row.microbatches) for row in own])
        panel.set(title=schedule, xlabel="microbatches")
        panel.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("idle share")
    panels[-1].legend(frameon=False, fontsize=8)
    _save(figure, path)


def draw_balance(figures: Sequence[Balance], path: Path) -> None:
    """Seconds of work per rank and of the whole step, before and after."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    ranks = len(figures[0].rank_seconds)
    for rank in range(ranks):
        places = [place + 0.25 * rank for place in range(len(figures))]
        axes.bar(places, [row.rank_seconds[rank] for row in figures], width=0.24, label=f"work of rank {rank}")
    places = [place + 0.25 * ranks for place in range(len(figures))]
    axes.bar(places, [row.step_seconds for row in figures], width=0.24, label="step", color="#9aa5ae")
    axes.set_xticks([place + 0.25 for place in range(len(figures))], [row.cut for row in figures])
    axes.set(ylabel="seconds", title="An uneven model, cut in three ways")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, path)


def _save(figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
