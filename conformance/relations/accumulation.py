"""Accumulation: a batch in slices is one large batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from conformance.contract.implementation import Unsupported
from conformance.evidence.comparison import Exhibit
from conformance.evidence.evidence import Trial
from conformance.relations.law import Finding, Law
from conformance.relations.oracle import first_step_holds
from conformance.relations.runs import Runs


class Accumulation(Law):
    """The mean over all tokens is no mean of means, however the rows are cut."""

    name = "accumulation"
    law = (
        "The first step with the batch in other numbers of equal slices (one if there were several, else two; and "
        "three where the rows divide) is the oracle's."
    )

    def trials(self, runs: Runs) -> Iterator[Trial]:
        recipe, refusals = runs.contract.recipe, []
        for number in numbers(recipe.accumulation, len(runs.batches[0]["mask"])):
            sliced = replace(recipe, accumulation=number, shares=())
            try:
                yield runs.trial(f"accumulation {number}", partial(runs.first_step, recipe=sliced))
            except Unsupported as refusal:
                refusals.append(refusal)
        if len(refusals) == len(numbers(recipe.accumulation, len(runs.batches[0]["mask"]))):
            raise refusals[0] if refusals else Unsupported("The rows of the batch cannot be cut.")

    def judge(self, exhibit: Exhibit, trials: Sequence[Trial]) -> Iterator[Finding]:
        for trial in trials:
            yield from first_step_holds(exhibit, trial)


def numbers(own: int, rows: int) -> list[int]:
    """The numbers of slices to try."""
    return [number for number in (1 if own > 1 else 2, 3) if number != own and rows % number == 0]
