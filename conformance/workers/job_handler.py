"""Answers: what a worker process does with each kind of job, in either framework."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conformance.evidence.intermediates import as_inputs
from conformance.workers.execute import Execution
from conformance.workers.finished import FinishedSteps
from conformance.workers.jobs import (
    CaseJob,
    MeasureJob,
    ProfileJob,
    ReferenceJob,
    ReferencePartsJob,
    ReferenceShapesJob,
    ReferenceValuesJob,
    SitesJob,
    Task,
    ValuesJob,
)
from conformance.workers.platform import Platform
from conformance.workers.profiling import profiled
from conformance.workers.references import References


class JobHandler:
    """Called with a job; after an exception no implementation is used again: it may have been left halfway."""

    def __init__(self, platform: Platform, references: References) -> None:
        self.platform, self.references = platform, references

    def __call__(self, job: Task) -> Any:
        FinishedSteps.of_this_process().forget()
        try:
            with self.platform.compiling(job):
                return self._answer(job)
        except Exception:
            self.platform.forget()
            raise

    def _answer(self, job: Task) -> Any:
        if isinstance(job, ReferenceJob):
            return self.references.reference(job)
        if isinstance(job, ReferenceShapesJob):
            return self.references.shapes(job)
        if isinstance(job, ReferencePartsJob):
            return self.references.of_parts(job)
        if isinstance(job, ReferenceValuesJob):
            trainer, parameters, batch = self.references.first_step(job)
            intermediates = self.platform.reference_values(trainer.step, trainer.place(parameters), batch)
            every = as_inputs(batch | parameters)
            inputs, unseen = (tuple(x for x in every if (x.place in batch) is given) for given in (True, False))
            return None if intermediates is None else replace(intermediates, inputs=inputs, unseen=unseen)
        if isinstance(job, ValuesJob):
            return Execution(job, self.platform).values()
        if isinstance(job, SitesJob):
            return Execution(job, self.platform).sites()
        if isinstance(job, MeasureJob):
            return Execution(job, self.platform).measured()
        if isinstance(job, ProfileJob):
            return profiled(Execution(job, self.platform), job.repeats)
        assert isinstance(job, CaseJob)
        return Execution(job, self.platform).evidence()
