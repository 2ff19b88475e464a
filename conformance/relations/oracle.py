"""A first step that was run another way, held against the oracle within the bounds of the case."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from conformance.evidence.comparison import Comparison, Exhibit
from conformance.evidence.evidence import Trial
from conformance.evidence.gather import disagreements
from conformance.relations.law import Finding

Arranged = Callable[[str, np.ndarray], np.ndarray]


def first_step_holds(
    exhibit: Exhibit, trial: Trial, arranged: Arranged = lambda name, value: value
) -> Iterator[Finding]:
    """Everything that the case observed in its first step was observed again, is the oracle's, and copies agree.

    `arranged` (name, value) lays what the oracle says in the order of this run.
    """
    if trial.refused:
        yield trial.label, refusal(trial)
        return
    compared = exhibit.against_oracle(trial.observations, trial.mesh, arranged)
    for one in compared:
        yield f"{trial.label}: {one.tensor}", _beyond(exhibit, trial, one)
    for name in _lost(exhibit, compared):
        yield f"{trial.label}: {name}", f"With {trial.label}, '{name}' is missing or has another shape."
    yield from copies_agree(trial)


def copies_agree(trial: Trial) -> Iterator[Finding]:
    """Copies of a tensor have the same bits on all ranks."""
    for name, observed in trial.observations.items():
        pair, sentence = next(disagreements(observed), None), ""
        if pair is not None:
            one, other = (block.ranks[0] for block in pair)
            sentence = f"With {trial.label}, {name} differs between rank {one} and rank {other}."
        yield f"{trial.label}: copies of {name}", sentence


def refusal(trial: Trial) -> str:
    """The sentence about a run that the implementation refused."""
    return f"With {trial.label} the implementation fails: {trial.refused.rstrip('.')}."


def _beyond(exhibit: Exhibit, trial: Trial, one: Comparison) -> str:
    if one.excess.ratio <= exhibit.bound:
        return ""
    rows = "" if one.excess.blocks == 1 else f" rows {one.excess.rows[0]}-{one.excess.rows[1] - 1}"
    return (
        f"With {trial.label}, {one.tensor}{rows} is off by {one.excess.error:.3g}; rounding explains "
        f"{one.excess.yardstick:.3g}, the bound is {exhibit.bound:g} times that."
    )


def _lost(exhibit: Exhibit, compared: Sequence[Comparison]) -> list[str]:
    """What the case and the oracle both have, and the run has not."""
    found = {one.tensor for one in compared}
    known = {one.tensor for one in exhibit.comparisons if one.step == 0}
    return sorted(known - found)
