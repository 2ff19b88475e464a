"""A platform: what one framework must provide so that a case can be run on it."""

from __future__ import annotations

import tempfile
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from conformance.cases.case import Case
from conformance.contract.contract import Arrays, Contract
from conformance.contract.implementation import Implementation, Traffic
from conformance.evidence.arithmetic import Operation
from conformance.evidence.evidence import Computed, Division, Observations, Observed
from conformance.evidence.intermediates import Intermediates
from conformance.evidence.partitioned import Partitioned
from conformance.trace.site import Site
from conformance.workers.buffers import Buffer
from conformance.workers.folder import shared_parent
from conformance.workers.jobs import Job, RankOperation, Task
from conformance.workers.lookup import contract, implementation_class
from conformance.workers.observe import Unreadable

PROGRAMS_KEPT = 8  # a mesh of three axes is narrowed to six others to diagnose what fails on it
Work = tuple[int | None, int | None]  # floating-point operations: of matrix products, and of all arithmetic
Step = Callable[[Any, Arrays], tuple[Any, Mapping[str, Any]]]


class Clock:
    """Seconds by phase, and the shortest time that each phase ever took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.shortest: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            taken = time.perf_counter() - started
            self.seconds[phase] = self.seconds.get(phase, 0.0) + taken
            self.shortest[phase] = min(taken, self.shortest.get(phase, taken))

    def add(self, phase: str, seconds: float) -> None:
        self.seconds[phase] = self.seconds.get(phase, 0.0) + max(seconds, 0.0)

    def move(self, phase: str, to: str, seconds: float) -> None:
        """Count seconds of one phase, at most what it has, as another's."""
        moved = min(seconds, self.seconds.get(phase, 0.0))
        if moved:
            self.seconds[phase] -= moved
            self.seconds[to] = self.seconds.get(to, 0.0) + moved


@dataclass(frozen=True, kw_only=True)
class TracedStep:
    """What was seen of one step: collectives, matrix products per rank, what ranks computed, narrow arithmetic, places
    for mutation.

    `unwatched` says why nothing was, `unseen` why one part of it was not (as in Evidence).
    """

    traffic: tuple[Traffic, ...] | None = None
    partitioned: Partitioned | None = None
    flops: Mapping[int, int] | None = None
    arithmetic: tuple[Operation, ...] | None = None
    division: Mapping[str, Division] = field(default_factory=dict)
    computed: Mapping[int, Computed] = field(default_factory=dict)
    sites: tuple[Site, ...] = ()
    unwatched: str = ""
    unseen: Mapping[str, str] = field(default_factory=dict)


@dataclass
class CachedProgram:
    """An implementation that is kept, so that another seed reuses its compiled program and what was seen of it."""

    contract: Contract
    implementation: Implementation
    ran: bool = False
    watched: TracedStep | None = None


class Platform(ABC):
    """One framework in one worker: a JAX process with many devices, or one rank of a torch fleet."""

    compiles: ClassVar[bool]  # the first call of a step compiles it
    traces: ClassVar[bool] = False  # what is seen of a step is seen by tracing it, and it does not run
    allows_smaller_mesh: ClassVar[bool] = False  # a mesh may leave devices of the case out
    is_leader: bool = True  # this process does what one of them must do alone

    def __init__(self) -> None:
        self._warm: OrderedDict[tuple[Any, ...], CachedProgram] = OrderedDict()

    def warm(self, job: Job) -> CachedProgram:
        """The implementation of a job: a kept one, or a new one."""
        case = job.case
        key = (case.contract, job.target, getattr(job, "fault", None), case.mesh, case.dtype)
        if key not in self._warm:
            self._warm[key] = self.built(job, contract(case.contract), case)
        self._warm.move_to_end(key)
        while len(self._warm) > PROGRAMS_KEPT:
            self._warm.popitem(last=False)
        return self._warm[key]

    def built(self, job: Job, claimed: Contract, case: Case) -> CachedProgram:
        """A new implementation of the class of a job, for the mesh and dtype of a case."""
        made = implementation_class(job)(claimed, case.mesh, case.dtype)
        return CachedProgram(claimed, self.prepared(made, case))

    def prepared(self, implementation: Implementation, case: Case) -> Implementation:
        """A new implementation, made fit to run here."""
        return implementation

    def compiling(self, job: Task) -> AbstractContextManager[None]:
        """Around all that is done for a job, where it matters whether its programs are kept for later runs."""
        return nullcontext()

    def forget(self) -> None:
        """Keep no implementation: one of them may have been left halfway."""
        self._warm.clear()

    def watch(self, warm: CachedProgram, state: Any, batch: Arrays, case: Case) -> tuple[Any, TracedStep]:
        """One step, if it has to run, and what is known of its communication: seen once per program, here or before."""
        if warm.watched is not None:
            return None if self.traces else warm.implementation.step(state, batch), warm.watched
        returned, warm.watched = self.watched(warm.implementation.step, state, batch, case)
        return returned, warm.watched

    @abstractmethod
    def barrier(self) -> None:
        """Until every process of the case is here."""

    @contextmanager
    def shared_folder(self) -> Iterator[Path]:
        """A new folder that all processes of the case see; removed at the end."""
        with tempfile.TemporaryDirectory(prefix="shardproof-", dir=shared_parent()) as folder:
            yield Path(folder)

    @abstractmethod
    def device_mesh(self, case: Case) -> Any:
        """The framework's mesh, devices in the order of the case's mesh."""

    @abstractmethod
    def wait(self, value: Any) -> None:
        """Until everything in it is computed."""

    @abstractmethod
    def observed(self, value: Any, case: Case) -> Observed:
        """What the ranks (torch: this rank) hold of a value."""

    @abstractmethod
    def buffers(self, value: Any, case: Case) -> Iterator[Buffer]:
        """Every array in a value that may nest (a state, what was collected of it), on the ranks of this process."""

    @abstractmethod
    def watched(self, step: Step, state: Any, batch: Arrays, case: Case) -> tuple[Any, TracedStep]:
        """See the communication of a step -> (what it returned, or None where steps are traced; what was seen)."""

    def peak_bytes(self, step: Step, state: Any, batch: Arrays) -> int | None:
        """Peak bytes per device of the compiled step; None where nothing is compiled."""
        return None

    def profiled(self, step: Step, state: Any, batch: Arrays, case: Case) -> tuple[RankOperation, ...]:
        """The operations of one step, by the framework's own profiler; on the ranks of this process."""
        return ()

    @abstractmethod
    def mutated(self, step: Step, state: Any, batch: Arrays, case: Case) -> Step:
        """The step with the case's mutation in it."""

    def values(self, step: Step, state: Any, batch: Arrays, case: Case) -> Intermediates | None:
        """What every operation of a step makes, the case's mutation in it; None where it cannot be traced."""
        return None

    def reference_values(self, step: Step, state: Any, batch: Arrays) -> Intermediates | None:
        """The same of a step of one device, without any mesh."""
        return None

    def observations(self, values: Mapping[str, Any], case: Case) -> Observations:
        if not isinstance(values, Mapping):
            raise Unreadable(f"Observations come as a mapping from name to value, not as a {type(values).__name__}.")
        return {name: self._named(name, value, case) for name, value in values.items()}

    def _named(self, name: str, value: Any, case: Case) -> Observed:
        try:
            return self.observed(value, case)
        except Unreadable as failure:
            raise Unreadable(f"The observation '{name}' cannot be read: {failure}.") from failure
