"""A platform: what one framework must provide so that a case can be run on it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from conformance.cases import Case
from conformance.contract import Arrays, Contract
from conformance.evidence import Observations, Observed
from conformance.implementation import Implementation, Traffic
from conformance.workers.jobs import Job, Site
from conformance.workers.lookup import contract, implementation_class

PROGRAMS_KEPT = 4
Step = Callable[[Any, Arrays], tuple[Any, Mapping[str, Any]]]


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - started


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What was seen of one step: collectives, matrix products per rank, places for mutation."""

    traffic: tuple[Traffic, ...] | None = None
    flops: Mapping[int, int] | None = None
    sites: tuple[Site, ...] = ()


class Platform(ABC):
    """One framework in one worker: a JAX process with many devices, or one rank of a torch fleet."""

    def __init__(self) -> None:
        self._instances: OrderedDict[tuple, Implementation] = OrderedDict()

    def implementation(self, job: Job) -> tuple[Contract, Implementation, bool]:
        """The contract, the instance (kept, so that another seed reuses its compiled program), and whether it is new."""
        case = job.case
        key = (case.contract, job.target, getattr(job, "fault", None), case.mesh, case.dtype)
        found = contract(case.contract)
        fresh = key not in self._instances
        if fresh:
            self._instances[key] = implementation_class(job)(found, case.mesh, case.dtype)
        self._instances.move_to_end(key)
        while len(self._instances) > PROGRAMS_KEPT:
            self._instances.popitem(last=False)
        return found, self._instances[key], fresh

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
    def watched(self, step: Step, state: Any, batch: Arrays, case: Case) -> tuple[Any, Watched]:
        """Run the step once with its communication seen -> (what the step returned, what was seen)."""

    def peak_bytes(self, step: Step, state: Any, batch: Arrays) -> int | None:
        """Peak bytes per device of the compiled step; None where nothing is compiled."""
        return None

    @abstractmethod
    def mutated(self, step: Step, state: Any, batch: Arrays, case: Case) -> Step:
        """The step with the case's mutation in it."""

    def observations(self, values: Mapping[str, Any], case: Case) -> Observations:
        """Raises ValueError, naming the observation, for a value that cannot be read."""
        found: Observations = {}
        for name, value in values.items():
            try:
                found[name] = self.observed(value, case)
            except ValueError as wrong:
                raise ValueError(f"The observation '{name}' cannot be read. {wrong}") from wrong
        return found
