"""What the answers of all processes of a job amount to."""

from __future__ import annotations

from typing import Any

from conformance.contract.roles import role
from conformance.evidence.intermediates import of_programs
from conformance.trace.site import Site
from conformance.workers.fleet import united
from conformance.workers.jobs import (
    Measured,
    MeasureJob,
    Outcome,
    ProfileJob,
    ReferenceJob,
    ReferencePartsJob,
    ReferenceShapesJob,
    ReferenceValuesJob,
    SitesJob,
    Task,
    ValuesJob,
)
from conformance.workers.profiling import together


def outcome_of(job: Task, answers: list[Any], seconds: float) -> Outcome:
    if isinstance(job, ReferenceJob):
        return Outcome(reference=answers[0], seconds=seconds, phases=answers[0].seconds)
    if isinstance(job, ReferenceShapesJob):
        return Outcome(shapes=answers[0], seconds=seconds)
    if isinstance(job, ReferencePartsJob):
        return Outcome(parts=tuple(answers[0]), seconds=seconds)
    if isinstance(job, (ValuesJob, ReferenceValuesJob)):
        kept = [part for part in answers if part is not None]
        intermediates = of_programs(kept, _programs(job, len(kept))) if len(kept) == len(answers) else None
        return Outcome(intermediates=intermediates, seconds=seconds)
    if isinstance(job, SitesJob):
        sites = alike([sites for sites, *_ in answers])
        return Outcome(sites=sites, alterations=answers[0][1], unwatched=answers[0][2], seconds=seconds)
    if isinstance(job, MeasureJob):
        return Outcome(measured=_slowest(answers), seconds=seconds)
    if isinstance(job, ProfileJob):
        return Outcome(profiled=together(answers), seconds=seconds)
    evidence = united(answers)
    return Outcome(evidence=evidence, seconds=seconds, phases=evidence.seconds)


def _programs(job: ValuesJob | ReferenceValuesJob, processes: int) -> list[int]:
    """What tells the program of each process: where one has one rank, its stage of a pipeline."""
    if not isinstance(job, ValuesJob) or processes < job.case.mesh.devices:
        return [0] * processes
    mesh = job.case.mesh
    stages = [axis for axis in mesh.axes if role(axis, {}) == "pipeline"]
    places = (mesh.coordinates(rank) for rank in range(processes))
    return [sum(where[axis] for axis in stages) for where in places]


def alike(ranks: list[tuple[Site, ...]]) -> tuple[Site, ...]:
    """The collectives that have the same number on all ranks, which may have programs of their own.

    To change one of that number on some ranks and another one on others would make them wait for each other.
    """
    programs = [{site.number: (site.kind, site.axes, site.phase) for site in sites} for sites in ranks]
    first = programs[0]
    return tuple(
        site for site in ranks[0] if all(program.get(site.number) == first[site.number] for program in programs)
    )


def _slowest(answers: list[Measured]) -> Measured:
    """A step is as slow as its slowest rank."""
    steps = zip(*(answer.step_seconds for answer in answers), strict=True)
    return Measured(step_seconds=tuple(max(step) for step in steps), peak_bytes=answers[0].peak_bytes)
