"""Recompute: computing a layer again in the backward pass changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from conformance.evidence.blocks import same_bits
from conformance.evidence.comparison import Exhibit
from conformance.evidence.evidence import Trial
from conformance.relations.law import Finding, Law
from conformance.relations.oracle import first_step_holds
from conformance.relations.runs import Runs


class Recompute(Law):
    """What is drawn or counted in a forward pass must come out the same when that pass is done twice."""

    name = "recompute"
    law = (
        "With recomputation switched (on where the recipe has none, else off) the first step is the oracle's, and "
        "every dropout mask keeps its bits."
    )

    def trials(self, runs: Runs) -> Iterator[Trial]:
        recipe = runs.contract.recipe
        switched = replace(recipe, recompute="layer" if recipe.recompute == "none" else "none")
        yield runs.trial(f"recompute {switched.recompute}", lambda: runs.first_step(recipe=switched))

    def judge(self, exhibit: Exhibit, trials: Sequence[Trial]) -> Iterator[Finding]:
        first = exhibit.evidence.steps[0]
        for trial in trials:
            yield from first_step_holds(exhibit, trial)
            for name, observed in trial.observations.items():
                if name.startswith("masks/"):
                    same = name in first and same_bits(observed, first[name])
                    sentence = "" if same else f"With {trial.label}, {name} is another mask."
                    yield f"{trial.label}: bits of {name}", sentence
