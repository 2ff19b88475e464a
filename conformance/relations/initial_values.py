"""Initial values: what an implementation draws depends on the seed, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations

import numpy as np

from conformance.contract.implementation import Unsupported
from conformance.contract.mesh import Mesh
from conformance.evidence.blocks import place
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import ExtraRun, Observations, Observed
from conformance.evidence.gather import gathered
from conformance.relations.layouts import other_layouts
from conformance.relations.oracle import copies_agree, refusal
from conformance.relations.relation import Finding, Relation
from conformance.relations.runs import Runs
from conformance.relations.whole import difference

ELSEWHERE = 2  # other meshes to draw on
FEWEST = 4  # elements in a block below which equal blocks may be chance
WEIGHTS = 64  # elements from which a deviation says something
DRAWN, OTHER_SEED = "a draw on its own mesh", "a draw from another seed"


class InitialValues(Relation):
    """A key that is split per rank, or the same for all ranks, gives each mesh a model of its own."""

    name = "initial values"
    relation = (
        "Parameters that the implementation draws itself have the same bits on the mesh of the case and on two others, "
        "and other bits from another seed; no two shards hold the same numbers, nor two parameters; every weight "
        "deviates as much as the canonical one, within 25 % or five standard errors."
    )

    def extra_runs(self, runs: Runs) -> Iterator[ExtraRun]:
        seed = runs.case.seed
        yield runs.extra_run(DRAWN, partial(_drawn, runs, seed, runs.mesh))
        yield runs.extra_run(OTHER_SEED, partial(_drawn, runs, seed + 1, runs.mesh))
        drawn = 0
        for mesh in other_layouts(runs.mesh):
            if drawn == ELSEWHERE:
                return
            try:
                yield runs.extra_run(f"a draw on {mesh}", partial(_drawn, runs, seed, mesh), mesh)
                drawn += 1
            except Unsupported:
                continue

    def judge(self, case_run: CaseRun, extra_runs: Sequence[ExtraRun]) -> Iterator[Finding]:
        yield from ((extra_run.label, refusal(extra_run)) for extra_run in extra_runs if extra_run.refused)
        made = {extra_run.label: extra_run for extra_run in extra_runs if not extra_run.refused}
        drawn, other = made.pop(DRAWN, None), made.pop(OTHER_SEED, None)
        if drawn is None or other is None:
            return
        names = [f"parameters/{name}" for name in case_run.reference.initial]
        for extra_run in made.values():
            yield from ((f"{extra_run.label}: {name}", difference(name, drawn, extra_run)) for name in names)
            yield from copies_agree(extra_run)
        sentence = "" if made or case_run.case.mesh.devices == 1 else "Parameters were drawn on no other mesh."
        yield "other meshes", sentence
        yield from _randomness(case_run, drawn, other)


def _drawn(runs: Runs, seed: int, mesh: Mesh) -> Observations:
    instance = runs.fresh(mesh=mesh)
    collected = instance.collected(instance.initialized(seed))
    return {name: observed for name, observed in collected.items() if name.startswith("parameters/")}


def _randomness(case_run: CaseRun, drawn: ExtraRun, other: ExtraRun) -> Iterator[Finding]:
    """What is random in the contract is random here, and as large."""
    wholes: dict[str, np.ndarray] = {}
    for name, canonical in case_run.reference.initial.items():
        observed = drawn.observations.get(f"parameters/{name}")
        if observed is None or observed.shape != canonical.shape:
            yield f"shape of {name}", f"The parameter '{name}' was not drawn in its shape."
        elif canonical.size > 1 and np.ptp(canonical):
            wholes[name] = gathered(observed, drawn.mesh)
            again = other.observations.get(f"parameters/{name}")
            yield f"seeds of {name}", _seedless(name, wholes[name], again, other.mesh)
            yield f"shards of {name}", _repeated(name, observed)
            yield f"deviation of {name}", _deviating(name, wholes[name], canonical)
    for first, second in combinations(wholes, 2):
        if wholes[first].shape == wholes[second].shape and wholes[first].size >= FEWEST:
            same = np.array_equal(wholes[first], wholes[second])
            yield f"{first} and {second}", f"'{first}' and '{second}' have the same initial values." if same else ""


def _seedless(name: str, whole: np.ndarray, again: Observed | None, mesh: Mesh) -> str:
    if again is None or not np.array_equal(whole, gathered(again, mesh)):
        return ""
    return f"'{name}' has the same initial values from another seed: it is not random."


def _repeated(name: str, observed: Observed) -> str:
    """Different shards with the same numbers: every shard was drawn from the same key."""
    blocks = [block for block in observed.blocks if block.value.size >= FEWEST]
    for block, other in combinations(blocks, 2):
        if place(block) != place(other) and np.array_equal(block.value, other.value):
            return (
                f"Rank {block.ranks[0]} and rank {other.ranks[0]} hold different blocks of '{name}' with the same "
                "initial values: they were drawn from the same key."
            )
    return ""


def _deviating(name: str, whole: np.ndarray, canonical: np.ndarray) -> str:
    """Both deviations are estimates, each with a relative standard error of 1 / sqrt(2 n)."""
    if whole.size < WEIGHTS:
        return ""
    drawn, wanted = float(whole.std()), float(canonical.std())
    if abs(drawn / wanted - 1) <= max(0.25, 5 / np.sqrt(whole.size)):
        return ""
    return f"The initial values of '{name}' deviate by {drawn:.3g}, the canonical ones by {wanted:.3g}."
