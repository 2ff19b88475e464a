"""Execute a case on a platform: place, step, collect, and the extra runs that some checks need."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from conformance.blocks import all_same_bits
from conformance.contract import Arrays
from conformance.evidence import Evidence, Observations
from conformance.workers.jobs import CaseJob, Job, Measured, MeasureJob, Site
from conformance.workers.observe import Unreadable, shared
from conformance.workers.platform import Clock, Platform, Step, Watched


class Execution:
    """One case on one platform. In a torch fleet every rank executes the same, and holds its own part of the evidence.

    The extra runs are the first step again from a second placement (traced, once per program, if that is asked for),
    and one step for each key of the batch with that key changed.
    """

    def __init__(self, job: Job, platform: Platform) -> None:
        self.job, self.case, self.platform, self.clock = job, job.case, platform, Clock()
        self.warm = platform.warm(job)
        self.contract, self.implementation = self.warm.contract, self.warm.implementation
        self.device_mesh = platform.device_mesh(self.case)
        self.parameters = self.contract.parameters(self.case.seed)
        self.batches = self.contract.batches(self.case.seed, self.contract.recipe.steps)

    def evidence(self) -> Evidence:
        """Run the whole case."""
        job = self.job
        assert isinstance(job, CaseJob)
        state = self.placed()
        initial = self.collected(state)
        step = self.step(state)
        steps = tuple(self.trained(step, state))
        repeated, watched = self.repeated(step, job, steps[0]) if job.determinism or job.trace else (None, Watched())
        return Evidence(
            initial=initial,
            steps=steps,
            declarations=self.implementation.declare(),
            repeated=repeated,
            responses=dict(self.responses(step, steps[0])) if job.responses else {},
            devices=self.devices(steps),
            traffic=watched.traffic,
            flops=watched.flops,
            seconds=dict(self.clock.seconds),
        )

    def sites(self) -> tuple[Site, ...]:
        """The collectives of the program."""
        return self.platform.watch(self.warm, self.placed(), self.batches[0], self.case)[1].sites

    def measured(self) -> Measured:
        """The same step from the same state, again and again."""
        assert isinstance(self.job, MeasureJob)
        step, state, seconds = self.implementation.step, self.placed(), []
        for _ in range(self.job.repeats + 1):
            started = time.perf_counter()
            self.platform.wait(step(state, self.batches[0]))
            seconds.append(time.perf_counter() - started)
        peak = self.platform.peak_bytes(step, state, self.batches[0])
        return Measured(step_seconds=tuple(seconds[1:]), peak_bytes=peak)

    def placed(self) -> Any:
        with self.clock("place"):
            parameters = {name: value.copy() for name, value in self.parameters.items()}
            state = self.implementation.place(parameters, self.device_mesh)
            self.platform.wait(state)
        return state

    def step(self, state: Any) -> Step:
        if self.case.mutation is None:
            return self.implementation.step
        with self.clock("trace"):
            return self.platform.mutated(self.implementation.step, state, self.batches[0], self.case)

    def trained(self, step: Step, state: Any) -> Iterator[Observations]:
        """Every step of the recipe: what it observed, then the state after it."""
        for number, batch in enumerate(self.batches):
            new = self.case.mutation is not None or not self.warm.ran
            with self.clock("compile" if self.platform.compiles and number == 0 and new else "step"):
                state, seen = self.settled(step(state, _copied(batch)))
            self.warm.ran = True
            yield self.observed(seen) | self.collected(state)

    def settled(self, returned: Any) -> tuple[Any, Mapping[str, Any]]:
        if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[1], Mapping):
            raise Unreadable("A step must return two things: the new state, and a mapping of observations.")
        self.platform.wait((returned[0], dict(returned[1])))
        return returned

    def collected(self, state: Any) -> Observations:
        with self.clock("collect"):
            values = self.implementation.collect(state)
        return self.observed(values)

    def observed(self, values: Mapping[str, Any]) -> Observations:
        with self.clock("collect"):
            return self.platform.observations(values, self.case)

    def repeated(self, step: Step, job: CaseJob, first: Observations) -> tuple[Observations, Watched]:
        """The first step again from a second placement; watched unless it is a mutant."""
        state, batch = self.placed(), _copied(self.batches[0])
        with self.clock("trace" if job.trace and self.warm.watched is None else "step"):
            if job.trace and self.case.mutation is None:
                returned, watched = self.platform.watch(self.warm, state, batch, self.case)
            else:
                returned, watched = step(state, batch), Watched()
            state, seen = self.settled(returned)
        # A watched step is a step: only what watching adds to the shortest unwatched one is the cost of tracing.
        self.clock.move("trace", "step", self.clock.shortest.get("step", 0.0))
        return shared(self.observed(seen) | self.collected(state), first), watched

    def responses(self, step: Step, first: Observations) -> Iterator[tuple[str, bool]]:
        """For each key of the batch: does anything change when that key changes?"""
        for key in self.batches[0]:
            batch = _copied(self.batches[0]) | {key: changed(self.batches[0][key])}
            state = self.placed()
            with self.clock("step"):
                _, seen = self.settled(step(state, batch))
            after = self.observed(seen)
            yield key, not all_same_bits(after, {name: first[name] for name in after if name in first})

    def devices(self, steps: tuple[Observations, ...]) -> tuple[int, ...]:
        """The devices that really store something."""
        stored = [observed.stored_bytes for step in steps for observed in step.values()]
        ranks = {rank for one in stored for rank, size in one.items() if size}
        return tuple(sorted(self.case.mesh.device_order[rank] for rank in ranks))


def changed(value: np.ndarray) -> np.ndarray:
    """Another valid array: rolled by one along every dim; where that changes nothing, masks or signs are flipped."""
    rolled = np.roll(value, shift=[1] * value.ndim, axis=list(range(value.ndim)))
    if not np.array_equal(rolled, value):
        return rolled
    return 1 - value if np.isin(value, (0, 1)).all() else -value


def _copied(arrays: Arrays) -> Arrays:
    """An implementation may work in place on what it is given."""
    return {name: array.copy() for name, array in arrays.items()}
