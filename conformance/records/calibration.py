"""Calibration: the distribution of excess errors over conforming runs, from which the bounds are fixed.

    python -m conformance.records.calibration RESULTS_DIR... results/calibration

Each conforming case gives one number per observable group: the largest excess error of all its comparisons. Largest
values of many comparisons follow a Gumbel law (Fisher and Tippett 1928), fitted here by its moments to the cases of a
dtype. The suggested bound is where that law leaves one case in RARE beyond it. A bound is fixed in
`conformance/evidence/tolerance.py` at or above the suggestion, rounded up to a half, and not below the largest seen.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from conformance.evidence.tolerance import BOUNDS, EPSILON
from conformance.records.recorder import read
from conformance.records.records import CaseRecord

RARE = 10_000
EULER = 0.5772156649015329
EXCESS_CHECKS = ("logic", "numerics", "trajectory")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Excess errors of one dtype: how many cases, where they lie, what the law suggests, what the bound is."""

    dtype: str
    cases: int
    median: float
    largest: float
    largest_case: str
    gumbel_location: float
    gumbel_scale: float
    suggested: float
    bound: float


def excesses(records: Sequence[CaseRecord]) -> dict[str, dict[str, dict[str, float]]]:
    """dtype -> observable group -> case -> largest excess error, over the conforming (unchanged, passing) cases."""
    measured: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        if record.verdict == "pass" and not record.fault and not record.mutation:
            for check in record.checks:
                for group, ratio in check.ratios.items() if check.check in EXCESS_CHECKS else ():
                    of_case = measured[record.dtype][group]
                    of_case[record.case] = max(of_case.get(record.case, 0.0), ratio * BOUNDS[record.dtype])
    return measured


def fits(measured: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[Fit]:
    """One fit per dtype, over the largest value of each case."""
    return [_fit(dtype, _per_case(measured[dtype])) for dtype in EPSILON if dtype in measured]


def _per_case(groups: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    largest: dict[str, float] = {}
    for cases in groups.values():
        for case, value in cases.items():
            largest[case] = max(largest.get(case, 0.0), value)
    return largest


def _fit(dtype: str, cases: Mapping[str, float]) -> Fit:
    values = np.array(list(cases.values()))
    scale = float(values.std() * math.sqrt(6) / math.pi)
    location = float(values.mean() - EULER * scale)
    worst = max(cases, key=lambda case: cases[case])
    return Fit(
        dtype=dtype,
        cases=len(cases),
        median=float(np.median(values)),
        largest=cases[worst],
        largest_case=worst,
        gumbel_location=location,
        gumbel_scale=scale,
        suggested=location - scale * math.log(-math.log(1 - 1 / RARE)),
        bound=BOUNDS[dtype],
    )


def write(records: Sequence[CaseRecord], directory: Path) -> list[Fit]:
    """calibration.json, calibration.md and calibration.svg."""
    measured = excesses(records)
    made = fits(measured)
    directory.mkdir(parents=True, exist_ok=True)
    groups = {dtype: {group: max(cases.values()) for group, cases in of.items()} for dtype, of in measured.items()}
    content = {"rare": RARE, "fits": [asdict(fit) for fit in made], "largest_by_group": groups}
    (directory / "calibration.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    (directory / "calibration.md").write_text(_page(made, groups))
    _draw(measured, made, directory / "calibration.svg")
    return made


def _page(made: Sequence[Fit], groups: Mapping[str, Mapping[str, float]]) -> str:
    lines = [
        "# Excess errors of conforming runs",
        "",
        "Largest excess error per case: the deviation from the float64 oracle, in units of what rounding does",
        f"to one device. The suggestion leaves one conforming case in {RARE:,} beyond it.",
        "",
        "| dtype | cases | median | largest | suggested | bound | largest case |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    lines += [
        f"| {fit.dtype} | {fit.cases} | {fit.median:.2f} | {fit.largest:.2f} | {fit.suggested:.2f} | {fit.bound:g} | "
        f"`{fit.largest_case}` |"
        for fit in made
    ]
    lines += ["", "Largest by observable:", "", "| dtype | observable | largest |", "| --- | --- | ---: |"]
    lines += [f"| {dtype} | {group} | {most:.2f} |" for dtype, of in groups.items() for group, most in of.items()]
    return "\n".join(lines) + "\n"


def _draw(measured: Mapping[str, Mapping[str, Mapping[str, float]]], made: Sequence[Fit], path: Path) -> None:
    """A histogram per dtype, with the fitted law and the bound."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "shardproof"  # the same picture has the same bytes
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(made), 1, figsize=(7, 2.4 * len(made)), sharex=True, squeeze=False)
    for fit, pane in zip(made, axes[:, 0], strict=True):
        values = np.array(list(_per_case(measured[fit.dtype]).values()))
        pane.hist(values, bins=np.linspace(0, max(fit.bound * 1.1, fit.largest), 60), color="#4c78a8")
        grid = np.linspace(0, fit.bound * 1.1, 300)
        z = (grid - fit.gumbel_location) / max(fit.gumbel_scale, 1e-12)
        law = np.exp(-z - np.exp(-z)) / max(fit.gumbel_scale, 1e-12)
        pane.plot(grid, law * len(values) * fit.bound * 1.1 / 59, color="#e45756", linewidth=1.5, label="Gumbel law")
        pane.axvline(fit.bound, color="black", linestyle="--", label=f"bound {fit.bound:g}")
        pane.set_ylabel(f"{fit.dtype}\n{fit.cases} cases")
        pane.legend(frameon=False)
    axes[-1, 0].set_xlabel("largest excess error of a conforming case")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main(arguments: Sequence[str]) -> int:
    """Several results directories in, the folder of the calibration out."""
    if len(arguments) < 2:
        print("Name one or more results directories, then the folder for the calibration.", file=sys.stderr)
        return 2
    *directories, output = map(Path, arguments)
    records = [record for directory in directories for record in read(directory).records]
    for fit in write(records, output):
        print(f"{fit.dtype}: {fit.cases} cases, largest {fit.largest:.2f}, suggested {fit.suggested:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
