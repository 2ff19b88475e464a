"""The page of predicted against compiled bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from conformance.cases.plannable import Footprint
from conformance.records.formatting import binary_bytes
from suites.planning.footprint import footprint
from suites.planning.measure.plans import Measured

Row = tuple[Measured, dict[str, Any]]
WITHIN = 0.15


def page(folder: Path, rows: Sequence[Row]) -> None:
    """Write README.md; predictions are made anew, so that they are those of the code at hand."""
    (folder / "README.md").write_text("\n".join(_lines(rows)) + "\n", encoding="utf-8")


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    yield "# Predicted against compiled bytes\n"
    yield "Made by `python -m suites.planning.measure results/planning`: each plan is compiled for an H100 that is not"
    yield "there (level target), and what `shardproof plan` predicts of it, without compiling, stands beside it. Bytes"
    yield "are of one device; gradients are a part of the temporaries and not told apart in a compiled program.\n"
    yield from _summary(rows)
    head = ("model", "mesh", "rows x length", "microbatches", "recompute", "parameters in", "parameters", "slots",
            "temporaries predicted", "compiled", "off", "products off", "fitted")  # fmt: skip
    yield f"\n| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for plan, compiled in rows:
        yield f"| {' | '.join(_cells(plan, compiled))} |"


def _summary(rows: Sequence[Row]) -> Iterator[str]:
    """How far the predictions are off, apart for plans that the counts were fitted to and for others."""
    exact = sum(_is_exact(footprint(plan.training, plan.layout), compiled) for plan, compiled in rows)
    yield f"* {exact} of {len(rows)} plans: bytes of parameters, and of slots, exactly as predicted."
    products = [abs(_products(footprint(plan.training, plan.layout), compiled)) for plan, compiled in rows]
    same = sum(off < 1e-9 for off in products)
    others = (
        "; the others, which have fewer key heads than ranks of tensor and multiply them mostly for a rank's own "
        f"tokens, off by {max(products):.1%} at the most"
    )
    yield f"* {same} of {len(rows)}: operations of matrix products exactly as predicted{others * (same < len(rows))}."
    for name, fitted in (("that the counts were fitted to", True), ("that they were not fitted to", False)):
        off = [abs(_off(footprint(p.training, p.layout), c)) for p, c in rows if p.fitted == fitted]
        if off:
            yield (
                f"* Temporaries of the {len(off)} plans {name}: {sum(each <= WITHIN for each in off)} within "
                f"{WITHIN:.0%}, off by {median(off):.1%} in the median and {max(off):.1%} at the most."
            )


def _cells(plan: Measured, compiled: dict[str, Any]) -> list[str]:
    predicted = footprint(plan.training, plan.layout)
    exact = "exact" if _is_exact(predicted, compiled) else "NOT EXACT"
    return [
        plan.size, plan.mesh, f"{plan.rows} x {plan.length}", str(plan.microbatches), plan.recompute, plan.parameters,
        f"{binary_bytes(compiled['parameter_bytes'])}, {exact}", binary_bytes(compiled["optimizer_bytes"]),
        binary_bytes(predicted.temporary_bytes), binary_bytes(compiled["temporary_bytes"]),
        f"{_off(predicted, compiled):+.1%}", f"{_products(predicted, compiled):+.1%}", "yes" if plan.fitted else "no",
    ]  # fmt: skip


def _is_exact(predicted: Footprint, compiled: dict[str, Any]) -> bool:
    pairs = (predicted.parameter_bytes, predicted.optimizer_bytes)
    return pairs == (compiled["parameter_bytes"], compiled["optimizer_bytes"])


def _off(predicted: Footprint, compiled: dict[str, Any]) -> float:
    return float(predicted.temporary_bytes / compiled["temporary_bytes"] - 1)


def _products(predicted: Footprint, compiled: dict[str, Any]) -> float:
    return float(sum(predicted.flops.values()) / sum(compiled["flops"].values()) - 1)
