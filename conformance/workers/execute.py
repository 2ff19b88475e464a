"""Execute a case on a platform: place, step, collect, and the extra runs that some checks need."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from conformance.cases import Case
from conformance.contract import Arrays, Contract
from conformance.evidence import Evidence, Observations
from conformance.implementation import Implementation
from conformance.workers.jobs import CaseJob, Job, Measured, MeasureJob, Site
from conformance.workers.observe import same_bits
from conformance.workers.platform import Clock, Platform, Step, Watched


class Execution:
    """One case on one platform. In a torch fleet every rank executes the same, and holds its own part of the evidence."""

    def __init__(self, job: Job, platform: Platform) -> None:
        self.job, self.case, self.platform, self.clock = job, job.case, platform, Clock()
        found, instance, self.fresh = platform.implementation(job)
        self.contract: Contract = found
        self.instance: Implementation = instance
        self.device_mesh = platform.device_mesh(self.case)
        self.parameters = found.parameters(self.case.seed)
        self.batches = found.batches(self.case.seed, found.recipe.steps)

    def evidence(self) -> Evidence:
        """Run the whole case."""
        assert isinstance(self.job, CaseJob)
        state = self.placed()
        initial = self.collected(state)
        step = self.step(state)
        steps = tuple(self.trained(step, state))
        repeated, watched = self.repeated(step) if self.job.determinism or self.job.trace else (None, Watched())
        return Evidence(
            initial=initial,
            steps=steps,
            declarations=self.instance.declare(),
            repeated=repeated,
            responses=dict(self.responses(step, steps[0])) if self.job.responses else {},
            devices=self.devices(steps[0]),
            traffic=watched.traffic,
            flops=watched.flops,
            seconds=dict(self.clock.seconds),
        )

    def sites(self) -> tuple[Site, ...]:
        """The collectives of the program."""
        return self.platform.watched(self.instance.step, self.placed(), self.batches[0], self.case)[1].sites

    def measured(self) -> Measured:
        """The same step from the same state, again and again."""
        assert isinstance(self.job, MeasureJob)
        step, state, seconds = self.instance.step, self.placed(), []
        for _ in range(self.job.repeats + 1):
            started = time.perf_counter()
            self.platform.wait(step(state, self.batches[0]))
            seconds.append(time.perf_counter() - started)
        peak = self.platform.peak_bytes(step, state, self.batches[0])
        return Measured(step_seconds=tuple(seconds[1:]), peak_bytes=peak)

    def placed(self) -> Any:
        with self.clock("place"):
            state = self.instance.place(
                {name: value.copy() for name, value in self.parameters.items()}, self.device_mesh
            )
            self.platform.wait(state)
        return state

    def step(self, state: Any) -> Step:
        if self.case.mutation is None:
            return self.instance.step
        with self.clock("trace"):
            return self.platform.mutated(self.instance.step, state, self.batches[0], self.case)

    def trained(self, step: Step, state: Any) -> Iterator[Observations]:
        """Every step of the recipe: what it observed, then the state after it."""
        for number, batch in enumerate(self.batches):
            with self.clock("compile" if number == 0 and (self.fresh or self.case.mutation) else "step"):
                state, seen = step(state, batch)
                self.platform.wait((state, dict(seen)))
            with self.clock("collect"):
                observed = self.observed(seen)
            yield observed | self.collected(state)

    def collected(self, state: Any) -> Observations:
        with self.clock("collect"):
            found = self.instance.collect(state)
            return self.observed(found)

    def repeated(self, step: Step) -> tuple[Observations, Watched]:
        """The first step again from a second placement, watched."""
        state = self.placed()
        assert isinstance(self.job, CaseJob)
        with self.clock("trace" if self.job.trace else "step"):
            watch = self.platform.watched if self.job.trace else _unwatched
            (state, seen), watched = watch(step, state, self.batches[0], self.case)
            self.platform.wait((state, dict(seen)))
        with self.clock("collect"):
            observed = self.observed(seen)
        return observed | self.collected(state), watched

    def observed(self, values: Mapping[str, Any]) -> Observations:
        """What the ranks hold, once it is computed."""
        self.platform.wait(dict(values))
        return self.platform.observations(values, self.case)

    def devices(self, step: Observations) -> tuple[int, ...]:
        """The devices that store something of what was observed."""
        ranks = {rank for one in step.values() for rank, size in one.stored_bytes.items() if size}
        return tuple(sorted(self.case.mesh.device_order[rank] for rank in ranks))

    def responses(self, step: Step, first: Observations) -> Iterator[tuple[str, bool]]:
        """For each key of the batch: does anything change when that key changes?"""
        for key in self.batches[0]:
            changed = self.batches[0] | {key: _changed(self.batches[0][key])}
            state = self.placed()
            with self.clock("step"):
                state, seen = step(state, changed)
                self.platform.wait(dict(seen))
            with self.clock("collect"):
                after = self.observed(seen)
            yield key, not same_bits(after, {name: first[name] for name in after})


def _unwatched(step: Step, state: Any, batch: Arrays, case: Case) -> tuple[Any, Watched]:
    return step(state, batch), Watched()


def _changed(value: np.ndarray) -> np.ndarray:
    """Another valid array: rows and columns rolled by one; where that is the same array, its 0/1 flipped or sign changed."""
    rolled = np.roll(value, shift=1, axis=tuple(range(value.ndim)))
    if not np.array_equal(rolled, value):
        return rolled
    return 1 - value if np.isin(value, (0, 1)).all() else -value


def batch_floats(batch: Arrays) -> list[str]:
    """Keys whose values are real inputs: not integers, not masks."""
    return [
        key
        for key, value in batch.items()
        if np.issubdtype(value.dtype, np.floating) and not np.isin(value, (0, 1)).all()
    ]
