"""A first step that was run another way, held against the oracle within the bounds of the case."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from conformance.evidence.comparison import CaseRun, TensorComparison
from conformance.evidence.evidence import ExtraRun
from conformance.evidence.gather import disagreements
from conformance.relations.relation import Finding

Reordered = Callable[[str, np.ndarray], np.ndarray]


def first_step_holds(
    case_run: CaseRun, extra_run: ExtraRun, arranged: Reordered = lambda name, value: value
) -> Iterator[Finding]:
    """Everything that the case observed in its first step was observed again, is the oracle's, and copies agree.

    `arranged` (name, value) lays what the oracle says in the order of this run.
    """
    if extra_run.refused:
        yield extra_run.label, refusal(extra_run)
        return
    compared = case_run.against_oracle(extra_run.observations, extra_run.mesh, arranged)
    for comparison in compared:
        yield f"{extra_run.label}: {comparison.tensor}", _beyond(case_run, extra_run, comparison)
    for name in _lost(case_run, compared):
        yield f"{extra_run.label}: {name}", f"With {extra_run.label}, '{name}' is missing or has another shape."
    yield from copies_agree(extra_run)


def copies_agree(extra_run: ExtraRun) -> Iterator[Finding]:
    """Copies of a tensor have the same bits on all ranks."""
    for name, observed in extra_run.observations.items():
        pair, sentence = next(disagreements(observed), None), ""
        if pair is not None:
            rank, other = (block.ranks[0] for block in pair)
            sentence = f"With {extra_run.label}, {name} differs between rank {rank} and rank {other}."
        yield f"{extra_run.label}: copies of {name}", sentence


def refusal(extra_run: ExtraRun) -> str:
    """The sentence about a run that the implementation refused."""
    return f"With {extra_run.label} the implementation fails: {extra_run.refused.rstrip('.')}."


def _beyond(case_run: CaseRun, extra_run: ExtraRun, comparison: TensorComparison) -> str:
    if comparison.excess.ratio <= case_run.bound:
        return ""
    rows = "" if comparison.excess.blocks == 1 else f" rows {comparison.excess.rows[0]}-{comparison.excess.rows[1] - 1}"
    return (
        f"With {extra_run.label}, {comparison.tensor}{rows} is off by {comparison.excess.error:.3g}; rounding explains "
        f"{comparison.excess.yardstick:.3g}, the bound is {case_run.bound:g} times that."
    )


def _lost(case_run: CaseRun, compared: Sequence[TensorComparison]) -> list[str]:
    """What the case and the oracle both have, and the run has not."""
    observed = {comparison.tensor for comparison in compared}
    known = {comparison.tensor for comparison in case_run.comparisons if comparison.step == 0}
    return sorted(known - observed)
