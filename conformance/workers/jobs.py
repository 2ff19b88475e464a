"""What the main process asks of a worker, and what comes back. Plain data: it crosses process borders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from conformance.cases.case import Case, Verdict
from conformance.contract.alteration import Alteration
from conformance.contract.contract import Arrays
from conformance.contract.implementation import Traffic
from conformance.contract.timeline import Timeline
from conformance.evidence.evidence import Evidence, ReferenceResult
from conformance.evidence.intermediates import Intermediates
from conformance.trace.site import Site


@dataclass(frozen=True, kw_only=True)
class CaseJob:
    """Run one case. `target` and `fault` are 'module:Class' or '/path/file.py:Class'; a fault is a mixin put in front.

    The switches ask for the runs that checks need besides the first step: the later steps, the first one again from a
    second placement, one per batch key with that key changed, and the traced program. `relations` names those to make
    extra runs for.
    `decisions` is what joins the batch of each step: decisions of the oracle that are replayed.
    """

    case: Case
    framework: str
    target: str
    fault: str | None = None
    later_steps: bool = True
    determinism: bool = True
    input_sensitivity: bool = True
    trace: bool = True
    relations: tuple[str, ...] = ()
    decisions: tuple[Arrays, ...] = ()
    others: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReferenceJob:
    """Run the single-device reference of a contract in float64, and in the dtype on perturbed inputs for the noise."""

    contract: str
    framework: str
    dtype: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class ReferenceShapesJob:
    """Run one step of the reference of a contract in float64, for the names and shapes of all that it hands over."""

    contract: str
    framework: str


@dataclass(frozen=True, kw_only=True)
class SitesJob:
    """List what can be mutated in a case's program: its collectives, and what the implementation can alter itself."""

    case: Case
    framework: str
    target: str


@dataclass(frozen=True, kw_only=True)
class ValuesJob:
    """Run the first step of a case, its mutation in it, and keep what every operation makes."""

    case: Case
    framework: str
    target: str
    fault: str | None = None
    decisions: tuple[Arrays, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReferenceValuesJob:
    """The same of the single-device reference of a contract, in float64."""

    contract: str
    framework: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class ReferencePartsJob:
    """What the reference observes on each of so many equal parts of the rows of its first batch, in float64.

    parts    0: every row by itself
    tensors  the observations that are wanted
    """

    contract: str
    framework: str
    seed: int
    parts: int
    tensors: tuple[str, ...] = ("loss",)


@dataclass(frozen=True, kw_only=True)
class MeasureJob:
    """Time a case's step, `repeats` times after one that is not counted, and ask its program for its memory."""

    case: Case
    framework: str
    target: str
    repeats: int = 20


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Seconds of each repeated step (torch: the slowest rank's), and the compiled peak bytes per device (JAX only)."""

    step_seconds: tuple[float, ...]
    peak_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class ProfileJob:
    """Take `repeats` steps of a case after one that compiles, and watch one more: who did what, and when."""

    case: Case
    framework: str
    target: str
    repeats: int = 5


@dataclass(frozen=True, kw_only=True)
class RankOperation:
    """One operation of one rank; `start` counts from the first operation of any rank."""

    rank: int
    name: str
    communicates: bool
    start_seconds: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """What was seen of a case's step.

    seconds     place, compile and step, whichever there is; the step is the median
    operations  of the step that was watched, in the order of their start
    traffic     collectives of one step, by phase, kind and axes; None where they are not known, as `unwatched` says
    partitioned whether they and `flops` were read behind the partitioner, which chose them
    held_bytes  rank -> bytes of the whole state
    peak_bytes  of a device, from the compiled program (JAX)
    planned     what each rank of a pipeline is to do when; None where there are no stages
    """

    seconds: Mapping[str, float]
    operations: tuple[RankOperation, ...]
    traffic: tuple[Traffic, ...] | None
    unwatched: str
    flops: Mapping[int, int]
    held_bytes: Mapping[int, int]
    peak_bytes: int | None
    partitioned: bool = False
    planned: Timeline | None = None


Job = CaseJob | SitesJob | ValuesJob | MeasureJob | ProfileJob  # what names a case
OfReference = ReferenceJob | ReferenceShapesJob | ReferenceValuesJob | ReferencePartsJob
Task = Job | OfReference  # whatever a worker is asked


def is_planted(job: Task) -> bool:
    """Whether the program of a job has a bug in it on purpose: a fault or a mutation."""
    if isinstance(job, (CaseJob, ValuesJob)):
        return bool(job.fault or job.case.mutation)
    return False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a job.

    evidence  of a job that failed: that of the steps that it had finished
    failure  None, error, hang, crash or unsupported; then `reason` is a sentence
    stack    where the worker was: a Python traceback, or the stacks of all threads; empty after a bare exit
    output   the last that the workers printed during the job
    unwatched  why the collectives that were to be listed are not known
    missing  the framework that is not installed; then nothing was run
    """

    evidence: Evidence | None = None
    reference: ReferenceResult | None = None
    sites: tuple[Site, ...] = ()
    intermediates: Intermediates | None = None
    parts: tuple[Arrays, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    alterations: tuple[Alteration, ...] = ()
    unwatched: str = ""
    measured: Measured | None = None
    profiled: Profiled | None = None
    failure: Verdict | None = None
    reason: str = ""
    stack: str = ""
    output: str = ""
    seconds: float = 0.0
    phases: Mapping[str, float] = field(default_factory=dict)
    missing: str | None = None
