"""Extra runs: where the relations of `relations` make their extra runs, on every rank alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from conformance.contract.contract import Recipe
from conformance.contract.implementation import Unsupported
from conformance.contract.mesh import Mesh
from conformance.evidence.evidence import ExtraRun, Observations
from conformance.relations import RELATIONS
from conformance.workers.instance import Instance
from conformance.workers.jobs import CaseJob
from conformance.workers.lookup import contract
from conformance.workers.observe import shared

if TYPE_CHECKING:
    from conformance.workers.execute import Execution

Results = tuple[dict[str, tuple[ExtraRun, ...]], dict[str, str]]


class ExtraRuns:
    """One case, and what its relations need to vary it. `first` is what the case observed in its first step."""

    def __init__(self, execution: Execution, first: Observations) -> None:
        assert isinstance(execution.job, CaseJob)
        self.case, self.job, self.platform = execution.case, execution.job, execution.platform
        self.others = execution.job.others
        self.clock, self.instance, self.first = execution.clock, execution.instance, first
        self.contract, self.parameters, self.batches = execution.contract, execution.parameters, execution.batches

    @property
    def mesh(self) -> Mesh:
        return self.case.mesh

    def results(self, names: Iterable[str]) -> Results:
        """(relation -> its extra runs, relation -> why it was declined), cheap relations first."""
        asked, related, unsupported_relations = set(names), {}, {}
        for name in (name for name in RELATIONS if name in asked):
            started, counted = time.perf_counter(), sum(self.clock.seconds.values())
            try:
                related[name] = tuple(RELATIONS[name].extra_runs(self))
            except Unsupported as refusal:
                unsupported_relations[name] = str(refusal)
            outside = time.perf_counter() - started - (sum(self.clock.seconds.values()) - counted)
            self.clock.add("relations", outside)
        return related, unsupported_relations

    def fresh(self, *, mesh: Mesh | None = None, recipe: Recipe | None = None) -> Instance:
        """A new object of the implementation under test, on another mesh of the same devices or with another recipe."""
        contract = self.contract if recipe is None else replace(self.contract, recipe=recipe)
        case = self.case if mesh is None else replace(self.case, mesh=mesh)
        return Instance(self.platform.built(self.job, contract, case), case, self.platform, self.clock)

    def another(self, name: str, path: str) -> Instance:
        """An object for another contract; of the same class, with whatever bug is planted in that."""
        job = self.job if path == self.job.target else replace(self.job, target=path, fault=None)
        other, case = contract(name), replace(self.case, contract=name)
        return Instance(self.platform.built(job, other, case), case, self.platform, self.clock)

    def first_step(self, *, mesh: Mesh | None = None, recipe: Recipe | None = None) -> Observations:
        """The first step of the case by such a new object."""
        return self.fresh(mesh=mesh, recipe=recipe).first_step(self.parameters, self.batches[0])

    def extra_run(
        self, label: str, body: Callable[[], Observations], mesh: Mesh | None = None, like: Observations | None = None
    ) -> ExtraRun:
        """Make one run. What the implementation raises is a result; only Unsupported declines the whole relation.

        What is the same as in `like` (the first step, unless told otherwise) is sent only once.
        """
        mesh = mesh or self.mesh
        try:
            return ExtraRun(label=label, mesh=mesh, observations=shared(body(), like or self.first))
        except (Unsupported, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as failure:  # what torch says of a damaged checkpoint is no Exception
            self.platform.forget()  # an implementation may have been left halfway
            sentence = " ".join(f"{type(failure).__name__}: {failure}".split())
            return ExtraRun(label=label, mesh=mesh, observations={}, refused=sentence)
