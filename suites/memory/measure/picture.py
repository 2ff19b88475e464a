"""The picture: bytes per device by policy, and by the sizes of the tensor and pipeline axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suites.memory.measure.figure import Figure

COLOURS = {"jax": "#1d6fb8", "torch": "#c8641e", "argument": "#4a4e57", "temporaries": "#9aa7bd"}


def write(figures: Sequence[Figure], path: Path) -> None:
    """Two panels: residuals that a policy leaves, as a share of those without one; memory as axes grow."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "shardproof"
    from matplotlib import pyplot

    drawing, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    _policies(left, figures)
    _axes(right, figures)
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    drawing.savefig(path, metadata={"Date": None})
    pyplot.close(drawing)


def _policies(panel: Any, figures: Sequence[Figure]) -> None:
    shown = [figure for figure in figures if figure.group == "checkpointing" and figure.shape == "small"]
    policies = list(dict.fromkeys(figure.policy for figure in shown))
    for number, framework in enumerate(("jax", "torch")):
        sizes = {figure.policy: figure.bytes for figure in shown if figure.framework == framework}
        if not sizes:
            continue
        places = [place + 0.4 * number - 0.2 for place in range(len(policies))]
        shares = [100 * sizes[policy] / sizes["none"] for policy in policies]
        bars = panel.barh(places, shares, height=0.38, color=COLOURS[framework], label=framework)
        panel.bar_label(bars, [f"{share:.0f} %" for share in shares], padding=3, fontsize=8)
    panel.set_yticks(range(len(policies)), policies)
    panel.invert_yaxis()
    panel.set_xlim(0, 118)
    panel.set_xlabel("saved residuals, % of those without a policy")
    panel.set_title("Computed again in the backward pass", loc="left", fontsize=11)
    panel.legend(frameon=False, loc="lower right")


def _axes(panel: Any, figures: Sequence[Figure]) -> None:
    shown = [figure for figure in figures if figure.group == "axes"]
    meshes = list(dict.fromkeys(figure.policy for figure in shown))
    below = [0.0] * len(meshes)
    for kind in ("argument", "temporaries"):
        sizes = {figure.policy: figure.bytes / 2**20 for figure in shown if figure.kind == kind}
        heights = [sizes[mesh] for mesh in meshes]
        panel.bar(range(len(meshes)), heights, bottom=below, color=COLOURS[kind], label=_KINDS[kind], width=0.6)
        below = [low + height for low, height in zip(below, heights, strict=True)]
    panel.set_xticks(range(len(meshes)), [mesh.replace(",", "\n") for mesh in meshes])
    panel.set_ylabel("MiB per device")
    panel.set_title("More stages, a larger tensor axis", loc="left", fontsize=11)
    panel.set_ylim(0, 1.25 * max(below))  # room for the legend
    panel.legend(frameon=False)


_KINDS = {"argument": "argument: state and batch, exact", "temporaries": "temporaries of the CPU's program, under scan"}
