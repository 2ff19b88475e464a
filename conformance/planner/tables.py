"""A search as tables, the same on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from conformance.planner.estimate import Estimate
from conformance.planner.explanation import RunnerUp, best_of_mesh
from conformance.planner.search import Search
from conformance.records.formatting import binary_bytes, seconds

MOST_MODELLED = 3
Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def ranking(search: Search, others: Sequence[RunnerUp]) -> Table:
    """The winner and the runners-up: predicted seconds of a step and bytes of a device."""
    head = ("mesh", "microbatches", "recompute", "step", "products", "communication", "waits", "memory", "why not")
    rows = [] if search.chosen is None else [[*_row(search.chosen.estimate), "chosen"]]
    rows += [[*_row(other.estimate), other.why] for other in others]
    rows += [[*_row(each), "known by formula alone"] for each in best_of_mesh(search.modelled)[:MOST_MODELLED]]
    return head, rows


def _row(each: Estimate) -> list[str]:
    communication = each.busy_seconds - each.compute_seconds
    staged = f" {each.layout.schedule}" if each.layout.schedule else ""
    return [
        f"{each.layout.mesh}{staged}",
        str(each.layout.microbatches),
        each.layout.recompute,
        seconds(each.step_seconds),
        seconds(each.compute_seconds),
        seconds(communication),
        f"{each.footprint.bubble:.0%}",
        binary_bytes(each.footprint.needed_bytes),
    ]


def memory(search: Search) -> Table:
    """Predicted beside compiled bytes of the chosen plan."""
    assert search.chosen is not None
    predicted, compiled = search.chosen.estimate.footprint, search.chosen.evidence
    known = compiled.temporary_bytes is not None and compiled.needed_bytes is not None
    level = f"compiled, level {compiled.level}"
    rows = [
        ["parameters", binary_bytes(predicted.parameter_bytes), binary_bytes(compiled.parameter_bytes)],
        ["optimizer", binary_bytes(predicted.optimizer_bytes), binary_bytes(compiled.optimizer_bytes)],
        ["gradients, a part of the temporaries", binary_bytes(predicted.gradient_bytes), ""],
        ["temporaries", binary_bytes(predicted.temporary_bytes), _known(compiled.temporary_bytes, known)],
        ["needed", binary_bytes(predicted.needed_bytes), _known(compiled.needed_bytes, known)],
    ]
    return ("memory of a device", "predicted", level), rows


def _known(size: int | None, known: bool) -> str:
    return binary_bytes(size or 0) if known else "not known"


def axes(search: Search) -> Table:
    """What a device sends in a step, by axes: by the budget, and as compiled; of a pipeline the one that sends most."""
    assert search.chosen is not None
    chosen, compiled = search.chosen.estimate, search.chosen.evidence
    names = dict.fromkeys((*chosen.communication_bytes, *compiled.communication_bytes))
    rows = [
        [
            name,
            binary_bytes(chosen.communication_bytes.get(name, 0)),
            binary_bytes(compiled.communication_bytes.get(name, 0)),
            seconds(chosen.communication_seconds.get(name, 0.0)),
            f"{chosen.communication_seconds.get(name, 0.0) / chosen.step_seconds:.0%}",
        ]
        for name in names
    ]
    of = ", of the rank that sends most" if chosen.layout.schedule else ""
    return ("sent over", "by the budget", f"compiled, level {compiled.level}{of}", "takes", "of the step"), rows
