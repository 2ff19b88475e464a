"""Second model: two models of other sizes in one process do not know of each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from conformance.contract.contract import Arrays
from conformance.contract.implementation import Unsupported
from conformance.evidence.blocks import same_bits
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import ExtraRun
from conformance.relations.oracle import first_step_holds, refusal
from conformance.relations.relation import Finding, Relation
from conformance.relations.runs import Model, Runs

NONE = "its suite has no other contract of other sizes that this implementation honours on this mesh"


class SecondModel(Relation):
    """What belongs to a model is kept where all models of the process find it: a global, a class, a cache."""

    name = "second model"
    relation = (
        "With a model of another contract of the suite, of other sizes, beside it in the same process, the first step "
        "keeps its bits, of an object made before that model has taken a step and of one made after; and the first "
        "step of that model is its oracle's."
    )

    def extra_runs(self, runs: Runs) -> Iterator[ExtraRun]:
        for contract, path in runs.others:
            try:
                yield from _beside(runs, runs.another(contract, path))
                return
            except Unsupported:
                continue
        raise Unsupported(NONE)

    def judge(self, case_run: CaseRun, extra_runs: Sequence[ExtraRun]) -> Iterator[Finding]:
        if not extra_runs:
            return
        second, *own = extra_runs
        yield from _second_holds(case_run, second)
        first = case_run.evidence.steps[0]
        for extra_run in own:
            if extra_run.refused:
                yield extra_run.label, refusal(extra_run)
            for name, observed in extra_run.observations.items():
                same = name in first and same_bits(observed, first[name])
                yield f"{extra_run.label}: {name}", "" if same else f"With {extra_run.label}, {name} has other bits."


def _beside(runs: Runs, second: Model) -> Iterator[ExtraRun]:
    """The first step of the other model, and of two objects of the case, made before that step and after it.

    A program is traced in its first step, so both are traced after it.
    """
    contract = second.contract
    batch = _first_batch(runs, second)
    before = runs.fresh()
    state = before.placed(runs.parameters)
    yield runs.extra_run(contract.name, lambda: second.first_step(contract.parameters(runs.case.seed), batch))
    yield runs.extra_run(
        f"an object made before one of {contract.name}", lambda: before.step_from(state, runs.batches[0])
    )
    yield runs.extra_run(f"an object made after one of {contract.name}", lambda: runs.first_step())


def _first_batch(runs: Runs, second: Model) -> Arrays:
    return second.contract.batches(runs.case.seed, second.contract.recipe.steps)[0]


def _second_holds(case_run: CaseRun, extra_run: ExtraRun) -> Iterator[Finding]:
    """Where the case itself is wrong by itself, so may the other model be: that says nothing of the two together."""
    known = case_run.others.get(extra_run.label)
    if known is None or any(
        comparison.excess.ratio > case_run.bound for comparison in case_run.comparisons if comparison.step == 0
    ):
        return
    contract, reference = known
    evidence = replace(case_run.evidence, initial={}, steps=(extra_run.observations,))
    case = replace(case_run.case, contract=contract.name)
    yield from first_step_holds(
        CaseRun(case=case, contract=contract, evidence=evidence, reference=reference), extra_run
    )
