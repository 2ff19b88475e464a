"""Accumulation: a batch in slices is one large batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from conformance.contract.implementation import Unsupported
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import ExtraRun
from conformance.relations.oracle import first_step_holds
from conformance.relations.relation import Finding, Relation
from conformance.relations.runs import Runs


class Accumulation(Relation):
    """The mean over all tokens is no mean of means, however the rows are cut."""

    name = "accumulation"
    relation = (
        "The first step with the batch in other numbers of equal slices (one if there were several, else two; and "
        "three where the rows divide) is the oracle's."
    )

    def extra_runs(self, runs: Runs) -> Iterator[ExtraRun]:
        recipe, refusals = runs.contract.recipe, []
        for number in numbers(recipe.accumulation, len(runs.batches[0]["mask"])):
            sliced = replace(recipe, accumulation=number, shares=())
            try:
                yield runs.extra_run(f"accumulation {number}", partial(runs.first_step, recipe=sliced))
            except Unsupported as refusal:
                refusals.append(refusal)
        if len(refusals) == len(numbers(recipe.accumulation, len(runs.batches[0]["mask"]))):
            raise refusals[0] if refusals else Unsupported("The rows of the batch cannot be cut.")

    def judge(self, case_run: CaseRun, extra_runs: Sequence[ExtraRun]) -> Iterator[Finding]:
        for extra_run in extra_runs:
            yield from first_step_holds(case_run, extra_run)


def numbers(own: int, rows: int) -> list[int]:
    """The numbers of slices to try."""
    return [number for number in (1 if own > 1 else 2, 3) if number != own and rows % number == 0]
