"""The page of predicted against compiled bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from conformance.cases.plannable import Footprint
from conformance.records.formatting import binary_bytes
from suites.planning.footprint import footprint_of_ranks
from suites.planning.measure.plans import Measured

WITHIN = 0.15
HEAD = (
    "model", "mesh", "rows x length", "microbatches", "recompute", "parameters in", "rank", "parameters", "slots",
    "temporaries predicted", "compiled", "off", "products off", "fitted", "findings",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One compiled program beside its prediction; of a pipeline each distinct rank has one."""

    plan: Measured
    rank: int
    predicted: Footprint
    compiled: Mapping[str, Any]
    findings: int

    @property
    def is_exact(self) -> bool:
        pairs = (self.predicted.parameter_bytes, self.predicted.optimizer_bytes)
        return pairs == (self.compiled["parameter_bytes"], self.compiled["optimizer_bytes"])

    @property
    def off(self) -> float:
        return float(self.predicted.temporary_bytes / self.compiled["temporary_bytes"] - 1)

    @property
    def products_off(self) -> float:
        return float(sum(self.predicted.flops.values()) / sum(self.compiled["flops"].values()) - 1)


def page(folder: Path, rows: Sequence[tuple[Measured, Mapping[str, Any]]]) -> None:
    """Write README.md; predictions are made anew, so that they are those of the code at hand."""
    programs = [each for row in rows for each in compared(*row)]
    (folder / "README.md").write_text("\n".join(_lines(programs)) + "\n", encoding="utf-8")


def compared(plan: Measured, compiled: Mapping[str, Any]) -> Iterator[Compared]:
    """Every program of one plan."""
    predicted = footprint_of_ranks(plan.training, plan.layout)
    for each in compiled["stages"] or ({**compiled, "rank": 0},):
        rank, findings = each["rank"], len(compiled["findings"])
        yield Compared(plan=plan, rank=rank, predicted=predicted[rank], compiled=each, findings=findings)


def _lines(programs: Sequence[Compared]) -> Iterator[str]:
    yield "# Predicted against compiled bytes\n"
    yield "Made by `python -m suites.planning.measure results/planning`: each plan is compiled for an H100 that is not"
    yield "there (level target), and what `shardproof plan` predicts of it, without compiling, stands beside it. Bytes"
    yield "are of one device; gradients are a part of the temporaries and not told apart in a compiled program. Of a"
    yield "pipeline each distinct rank is a program of its own. Findings are those of `shardproof scale` in a plan.\n"
    yield from _summary(programs)
    yield f"\n| {' | '.join(HEAD)} |"
    yield f"|{' --- |' * len(HEAD)}"
    for each in programs:
        yield f"| {' | '.join(_cells(each))} |"


def _summary(programs: Sequence[Compared]) -> Iterator[str]:
    """How far the predictions are off, apart for plans that the counts were fitted to and for others."""
    plans = len({each.plan.key for each in programs})
    exact = sum(each.is_exact for each in programs)
    yield (
        f"* {len(programs)} programs of {plans} plans; {exact} of {len(programs)}: bytes of parameters, and of slots, "
        "exactly as predicted."
    )
    products = [abs(each.products_off) for each in programs]
    same = sum(off < 1e-9 for off in products)
    others = (
        "; the others, which have fewer key heads than ranks of tensor and multiply them mostly for a rank's own "
        f"tokens, off by {max(products):.1%} at the most"
    )
    rest = others * (same < len(programs))
    yield f"* {same} of {len(programs)}: operations of matrix products exactly as predicted{rest}."
    for name, fitted in (("that the counts were fitted to", True), ("that they were not fitted to", False)):
        if off := [abs(each.off) for each in programs if each.plan.fitted == fitted]:
            yield (
                f"* Temporaries of the {len(off)} programs {name}: {sum(each <= WITHIN for each in off)} within "
                f"{WITHIN:.0%}, off by {median(off):.1%} in the median and {max(off):.1%} at the most."
            )


def _cells(each: Compared) -> list[str]:
    plan, compiled = each.plan, each.compiled
    of_ranks = f"{each.rank} of {plan.layout.mesh.size('pipeline')}" if plan.schedule else ""
    return [
        plan.size, plan.mesh, f"{plan.rows} x {plan.length}", f"{plan.microbatches} {plan.schedule}".strip(),
        plan.recompute, plan.parameters, of_ranks,
        f"{binary_bytes(compiled['parameter_bytes'])}, {'exact' if each.is_exact else 'NOT EXACT'}",
        binary_bytes(compiled["optimizer_bytes"]), binary_bytes(each.predicted.temporary_bytes),
        binary_bytes(compiled["temporary_bytes"]), f"{each.off:+.1%}", f"{each.products_off:+.1%}",
        "yes" if plan.fitted else "no", str(each.findings),
    ]  # fmt: skip
