"""`python -m suites.collectives.measure FOLDER`: time all algorithms, predict them; write page, JSON and pictures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from suites.collectives.algorithms import ALGORITHMS, cost
from suites.collectives.measure.comparison import Comparison, compared
from suites.collectives.measure.fit import Fitted
from suites.collectives.measure.pictures import draw_measured, draw_networks
from suites.collectives.measure.timings import RANKS, Timing, read, written
from suites.collectives.schedule import ALL_REDUCE
from suites.collectives.topology.declared import NETWORKS, SIZES
from suites.collectives.topology.prediction import pick


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    timings = [timing for framework in ("jax", "torch") for ranks in RANKS for timing in _timed(framework, ranks)]
    networks, comparisons = compared(timings)
    draw_measured(comparisons, folder / "measured.svg")
    draw_networks(folder / "networks.svg")
    figures = {
        "networks": [asdict(network) for network in networks],
        "comparisons": [_row(comparison) for comparison in comparisons],
        "timings": json.loads(written(timings)),
    }
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(page(networks, comparisons), encoding="utf-8")


def _timed(framework: str, ranks: int) -> list[Timing]:
    """In processes of their own: the number of devices is fixed when a framework starts."""
    command = [sys.executable, "-m", f"suites.collectives.measure.in_{framework}", str(ranks)]
    print(" ".join(command[1:]), file=sys.stderr, flush=True)
    return read(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _row(comparison: Comparison) -> dict[str, object]:
    derived = ("picked", "quickest", "loss", "agreement")
    return asdict(comparison) | {name: getattr(comparison, name) for name in derived}


def page(networks: list[Fitted], comparisons: list[Comparison]) -> str:
    """The figures as tables, with the pictures between them."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters["size"] = _size
    environment.filters["us"] = lambda seconds: f"{1e6 * seconds:.4g}"
    environment.filters["per_byte"] = lambda seconds: f"{1e9 * seconds:.3g}"
    picks = {name: {size: pick(ALL_REDUCE, network, size) for size in SIZES[::2]} for name, network in NETWORKS.items()}
    costs = {name: {k: cost(name, ALL_REDUCE, k) for k in RANKS} for name in ALGORITHMS}
    right = sum(c.picked == c.quickest for c in comparisons)
    return environment.get_template("page.md").render(
        networks=networks,
        comparisons=comparisons,
        picks=picks,
        costs=costs,
        sizes=SIZES[::2],
        right=right,
        losses=sorted(c.loss for c in comparisons),
        load=os.getloadavg()[0],
        cores=os.cpu_count(),
    )


def _size(operand_bytes: int) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if operand_bytes >= scale:
            return f"{operand_bytes // scale} {unit}"
    return f"{operand_bytes} B"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
