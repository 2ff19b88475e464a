"""`python -m suites.pipeline.measure FOLDER`: measure all figures, and write them as a page, JSON and pictures."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from conformance.workers.pool import Workers
from suites.pipeline.measure import figures, pictures
from suites.pipeline.measure.figures import CUTS, MICROBATCHES, RANKS, TIMED, TIMED_RANKS, Balance, Bubble, Memory

Figure = TypeVar("Figure", Memory, Bubble, Balance)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with Workers(jax_devices=RANKS) as workers:
        memory = [_told(figures.memory(workers, name, m)) for name in figures.CLASSES for m in MICROBATCHES]
        bubbles = [_told(figures.bubble(workers, name, m)) for name in figures.CLASSES for m in TIMED]
        balance = [_told(figures.balance(workers, cut)) for cut in CUTS]
    pictures.draw_memory(memory, folder / "memory.svg")
    pictures.draw_bubbles(bubbles, folder / "bubble.svg")
    pictures.draw_balance(balance, folder / "balance.svg")
    measured: dict[str, list[Any]] = {"memory": memory, "bubbles": bubbles, "balance": balance}
    content = {name: [asdict(row) for row in rows] for name, rows in measured.items()}
    (folder / "figures.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(page(measured), encoding="utf-8")


def _told(figure: Figure) -> Figure:
    print(figure, file=sys.stderr, flush=True)
    return figure


def page(measured: dict[str, list[Any]]) -> str:
    """The figures as tables, with the pictures between them."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters["kib"] = lambda size: f"{size / 1024:.0f}"
    environment.filters["three"] = lambda share: "" if share is None else f"{share:.3f}"
    return environment.get_template("page.md").render(**measured, ranks=RANKS, timed_ranks=TIMED_RANKS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
