"""`python -m suites.memory.measure FOLDER`: measure the policies of memory; write table, figures and picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from conformance.records.formatting import binary_bytes
from suites.memory.measure import picture
from suites.memory.measure.figure import Figure

DEVICES = 8
TITLES = {
    "checkpointing": "Activation checkpointing",
    "spill": "Spill to host memory",
    "accumulation": "Accumulation",
    "donation": "Donation of the state",
    "axes": "More stages, a larger tensor axis",
}


def main(folder: Path) -> None:
    from suites.memory.measure import in_jax

    folder.mkdir(parents=True, exist_ok=True)
    figures = [*_told(in_jax.figures()), *_told(_of_torch())]
    records = [figure.record() for figure in figures]
    (folder / "figures.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(page(figures, folder), encoding="utf-8")
    picture.write(figures, folder / "memory.svg")


def _told(figures: Iterable[Figure]) -> Iterator[Figure]:
    """Each as soon as it is known: they take minutes."""
    for figure in figures:
        print(f"{figure.group}: {figure.policy}, {figure.framework}, {figure.shape}", file=sys.stderr, flush=True)
        yield figure


def _of_torch() -> list[Figure]:
    """In a process of its own: this one has JAX."""
    made = subprocess.run([sys.executable, "-m", "suites.memory.measure.in_torch"], check=True, stdout=subprocess.PIPE)
    return [Figure(**record) for record in json.loads(made.stdout.splitlines()[-1])]


def page(figures: list[Figure], folder: Path) -> str:
    """The figures as tables, group by group."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters["size"] = binary_bytes
    groups: list[tuple[str, list[Any]]] = [
        (title, [figure for figure in figures if figure.group == group]) for group, title in TITLES.items()
    ]
    return environment.get_template("page.md").render(groups=groups, folder=folder)


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    main(Path(sys.argv[1]))
