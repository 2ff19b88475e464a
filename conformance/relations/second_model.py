"""Second model: two models of other sizes in one process do not know of each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from conformance.contract.contract import Arrays
from conformance.contract.implementation import Unsupported
from conformance.evidence.blocks import same_bits
from conformance.evidence.comparison import Exhibit
from conformance.evidence.evidence import Trial
from conformance.relations.law import Finding, Law
from conformance.relations.oracle import first_step_holds, refusal
from conformance.relations.runs import Model, Runs

NONE = "its suite has no other contract of other sizes that this implementation honours on this mesh"


class SecondModel(Law):
    """What belongs to a model is kept where all models of the process find it: a global, a class, a cache."""

    name = "second model"
    law = (
        "With a model of another contract of the suite, of other sizes, beside it in the same process, the first step "
        "keeps its bits, of an object made before that model has taken a step and of one made after; and the first "
        "step of that model is its oracle's."
    )

    def trials(self, runs: Runs) -> Iterator[Trial]:
        for contract, path in runs.others:
            try:
                yield from _beside(runs, runs.another(contract, path))
                return
            except Unsupported:
                continue
        raise Unsupported(NONE)

    def judge(self, exhibit: Exhibit, trials: Sequence[Trial]) -> Iterator[Finding]:
        if not trials:
            return
        second, *own = trials
        yield from _second_holds(exhibit, second)
        first = exhibit.evidence.steps[0]
        for trial in own:
            if trial.refused:
                yield trial.label, refusal(trial)
            for name, observed in trial.observations.items():
                same = name in first and same_bits(observed, first[name])
                yield f"{trial.label}: {name}", "" if same else f"With {trial.label}, {name} has other bits."


def _beside(runs: Runs, second: Model) -> Iterator[Trial]:
    """The first step of the other model, and of two objects of the case, made before that step and after it.

    A program is traced in its first step, so both are traced after it.
    """
    contract = second.contract
    batch = _first_batch(runs, second)
    before = runs.fresh()
    state = before.placed(runs.parameters)
    yield runs.trial(contract.name, lambda: second.first_step(contract.parameters(runs.case.seed), batch))
    yield runs.trial(f"an object made before one of {contract.name}", lambda: before.step_from(state, runs.batches[0]))
    yield runs.trial(f"an object made after one of {contract.name}", lambda: runs.first_step())


def _first_batch(runs: Runs, second: Model) -> Arrays:
    return second.contract.batches(runs.case.seed, second.contract.recipe.steps)[0]


def _second_holds(exhibit: Exhibit, trial: Trial) -> Iterator[Finding]:
    """Where the case itself is wrong by itself, so may the other model be: that says nothing of the two together."""
    known = exhibit.others.get(trial.label)
    if known is None or any(one.excess.ratio > exhibit.bound for one in exhibit.comparisons if one.step == 0):
        return
    contract, truth = known
    evidence = replace(exhibit.evidence, initial={}, steps=(trial.observations,))
    case = replace(exhibit.case, contract=contract.name)
    yield from first_step_holds(Exhibit(case=case, contract=contract, evidence=evidence, truth=truth), trial)
