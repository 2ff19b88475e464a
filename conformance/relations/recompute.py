"""Recompute: computing a layer again in the backward pass changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from conformance.evidence.blocks import same_bits
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import ExtraRun
from conformance.relations.oracle import first_step_holds
from conformance.relations.relation import Finding, Relation
from conformance.relations.runs import Runs


class Recompute(Relation):
    """What is drawn or counted in a forward pass must come out the same when that pass is done twice."""

    name = "recompute"
    relation = (
        "With recomputation switched (on where the recipe has none, else off) the first step is the oracle's, and "
        "every dropout mask keeps its bits."
    )

    def extra_runs(self, runs: Runs) -> Iterator[ExtraRun]:
        recipe = runs.contract.recipe
        switched = replace(recipe, recompute="layer" if recipe.recompute == "none" else "none")
        yield runs.extra_run(f"recompute {switched.recompute}", lambda: runs.first_step(recipe=switched))

    def judge(self, case_run: CaseRun, extra_runs: Sequence[ExtraRun]) -> Iterator[Finding]:
        first = case_run.evidence.steps[0]
        for extra_run in extra_runs:
            yield from first_step_holds(case_run, extra_run)
            for name, observed in extra_run.observations.items():
                if name.startswith("masks/"):
                    same = name in first and same_bits(observed, first[name])
                    sentence = "" if same else f"With {extra_run.label}, {name} is another mask."
                    yield f"{extra_run.label}: bits of {name}", sentence
