"""What is known of the programs of cases, kept for the next variation of one of them: their collectives and values."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from conformance.cases.case import Case
from conformance.cases.resolve import Target, resolve
from conformance.diagnosis.bisection import ACCUMULATION
from conformance.evidence.intermediates import Intermediates
from conformance.records.results import CaseResult
from conformance.workers.jobs import Outcome, ReferencePartsJob, ReferenceValuesJob, SitesJob, ValuesJob
from conformance.workers.pool import Workers

SECONDS = 120.0
VALUES_KEPT = 6  # steps whose intermediate values are kept: a few megabytes each


class Programs:
    """`unchanged` are results of programs in which a mutation has nothing to change."""

    def __init__(self) -> None:
        self.unchanged: dict[Case, CaseResult] = {}
        self._sites: dict[Case, Outcome] = {}
        self._rows: OrderedDict[ReferencePartsJob, tuple[np.ndarray, ...]] = OrderedDict()
        self._values: OrderedDict[str, Intermediates | None] = OrderedDict()

    def sites(self, case: Case, workers: Workers) -> Outcome:
        """What can be mutated in the program of a case."""
        if case not in self._sites:
            target = resolve(case)
            job = SitesJob(case=case, framework=target.framework, target=target.path)
            self._sites[case] = workers.run(job, SECONDS)
        return self._sites[case]

    def rows(self, case: Case, target: Target, workers: Workers, tensor: str) -> Sequence[np.ndarray]:
        """What the reference says of a tensor on each row of the first batch alone; nothing where it cannot."""
        contract = target.contract
        plain = contract.without(ACCUMULATION) if ACCUMULATION in contract.features else contract
        job = ReferencePartsJob(
            contract=plain.name, framework=target.framework, seed=case.seed, parts=0, tensors=(tensor,)
        )
        if job not in self._rows:
            self._rows[job] = tuple(part[tensor] for part in workers.run(job, SECONDS).parts if tensor in part)
            while len(self._rows) > VALUES_KEPT:
                self._rows.popitem(last=False)
        return self._rows[job]

    def values(self, job: ValuesJob | ReferenceValuesJob, workers: Workers) -> Intermediates | None:
        """The intermediate values of a step; those of a mutant are asked for once."""
        if isinstance(job, ValuesJob) and job.case.mutation is not None:
            return workers.run(job, SECONDS).intermediates
        key = str(job)
        if key not in self._values:
            self._values[key] = workers.run(job, SECONDS).intermediates
            while len(self._values) > VALUES_KEPT:
                self._values.popitem(last=False)
        return self._values.get(key)
