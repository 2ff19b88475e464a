"""Which processes a job needs: of which framework, on which kind of devices, and how many."""

from __future__ import annotations

from conformance.cases.case import Case
from conformance.workers.jobs import OfReference, Task


def processes_of(job: Task) -> str:
    if not isinstance(job, OfReference):
        return processes(job.framework, job.case)
    return f"jax {kind_of(job)}" if job.framework == "jax" else "torch reference"


def host_devices(job: Task) -> int:
    """How many host devices a job needs; real devices are as many as they are."""
    if isinstance(job, OfReference) or job.framework != "jax" or job.case.devices == "real":
        return 0
    return job.case.mesh.devices


def kind_of(job: Task) -> str:
    """The kind of devices that a job wants; a reference is run on emulated ones, never on what is under test."""
    return "emulated" if isinstance(job, OfReference) else job.case.devices


def processes(framework: str, case: Case) -> str:
    """Which processes run a case."""
    return f"jax {case.devices}" if framework == "jax" else f"torch {case.devices} {case.mesh.devices}"
