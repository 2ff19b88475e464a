"""`python -m suites.hybrid.coverage [PROFILE]`: which pairs of mesh axes the standing cases cross, and how often.

Two axes of one size hide what is done along the wrong one of them: a pair counts as crossed where both axes have more
than one device and their sizes differ.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

from rich.console import Console
from rich.table import Table

from conformance.cases.case import Case
from conformance.cases.suite import suites

AXES = ("data", "fsdp", "expert", "sequence", "tensor", "pipeline")
FRAMEWORKS = ("jax", "torch")


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A pair of axes in one framework: cases that cross it at all, and with unequal sizes."""

    pair: tuple[str, str]
    framework: str
    cases: int
    unequal: int


def crossings(cases: Iterable[Case]) -> Iterator[Crossing]:
    """Every pair of axes in both frameworks, over the cases that must pass."""
    passing = [case for case in cases if case.expect == "pass"]
    for pair in combinations(AXES, 2):
        for framework in FRAMEWORKS:
            own = [case for case in passing if case.implementation.partition("-")[0] == framework]
            sizes = [tuple(case.mesh.size(axis) for axis in pair) for case in own]
            crossed = [(a, b) for a, b in sizes if min(a, b) > 1]
            unequal = sum(a != b for a, b in crossed)
            yield Crossing(pair=pair, framework=framework, cases=len(crossed), unequal=unequal)


def main(profile: str) -> None:
    crossed = list(crossings(case for suite in suites().values() for case in suite.cases(profile)))
    table = Table(title=f"Pairs of axes in the profile {profile}: cases with unequal sizes, of all that cross the pair")
    for column in ("pair", *FRAMEWORKS):
        table.add_column(column)
    for pair in combinations(AXES, 2):
        of_pair = (crossing for crossing in crossed if crossing.pair == pair)
        table.add_row(" x ".join(pair), *(f"{crossing.unequal} of {crossing.cases}" for crossing in of_pair))
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "full")
