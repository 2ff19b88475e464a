"""Execute a case on a platform: place, step, collect, and the extra runs that some checks need."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeGuard

from conformance.cases.case import Mutation
from conformance.contract.alteration import Alteration
from conformance.evidence.blocks import all_same_bits
from conformance.evidence.evidence import Evidence, Observations
from conformance.evidence.intermediates import Intermediates, as_inputs
from conformance.trace.operators import OPERATORS
from conformance.trace.site import Site
from conformance.workers.altered import changed
from conformance.workers.extra_runs import ExtraRuns
from conformance.workers.finished import FinishedSteps
from conformance.workers.instance import Instance, copied
from conformance.workers.jobs import CaseJob, Job, Measured, MeasureJob, ValuesJob
from conformance.workers.memory_watch import MemoryWatch
from conformance.workers.observe import shared
from conformance.workers.platform import CachedProgram, Clock, Platform, Step, TracedStep

NOT_ASKED = TracedStep(unwatched="a mutant is not watched")


class Execution:
    """One case on one platform. In a torch fleet every rank executes the same, and holds its own part of the evidence.

    The extra runs are the first step again from a second placement (traced, once per program, if that is asked for),
    one step for each key of the batch with that key changed, and those of the relations (`conformance.relations`).
    """

    def __init__(self, job: Job, platform: Platform) -> None:
        self.job, self.case, self.platform, self.clock = job, job.case, platform, Clock()
        self.warm = platform.warm(job)
        if is_alteration(self.case.mutation):
            self.warm = self.altered(self.case.mutation)
        self.contract, self.implementation = self.warm.contract, self.warm.implementation
        self.instance = Instance(self.warm, self.case, platform, self.clock)
        self.parameters = self.contract.parameters(self.case.seed)
        self.batches = self.contract.batches(self.case.seed, self.contract.recipe.steps)
        if isinstance(job, (CaseJob, ValuesJob)) and job.decisions:
            self.batches = [batch | decisions for batch, decisions in zip(self.batches, job.decisions, strict=True)]

    def evidence(self) -> Evidence:
        """Run the whole case."""
        job = self.job
        assert isinstance(job, CaseJob)
        state = self.instance.placed(self.parameters)
        initial = self.instance.collected(state)
        step = self.step(state)
        steps = self.finished(initial, step, state)
        del state  # room for other placements
        related, unsupported_relations = ExtraRuns(self, steps[0]).results(job.relations)
        sensitivity = dict(self.input_sensitivity(step, steps[0])) if job.input_sensitivity else {}
        # Last: what was traced may have left its traces in a module of theirs.
        repeated, watched = self.repeated(step, job, steps[0]) if job.determinism or job.trace else (None, NOT_ASKED)
        return Evidence(
            initial=initial,
            steps=steps,
            declarations=self.implementation.declare(),
            repeated=repeated,
            input_sensitivity=sensitivity,
            devices=self.devices(steps),
            batch=self.memory.batch,
            state=self.memory.state_bytes() if job.later_steps else None,
            traffic=watched.traffic,
            partitioned=watched.partitioned,
            division=watched.division,
            computed=watched.computed,
            flops=watched.flops,
            unwatched=watched.unwatched,
            unseen=watched.unseen,
            arithmetic=watched.arithmetic,
            related=related,
            unsupported_relations=unsupported_relations,
            timeline=self.implementation.timeline(),
            seconds=dict(self.clock.seconds),
        )

    def sites(self) -> tuple[tuple[Site, ...], tuple[Alteration, ...], str]:
        """The collectives of the program, what the implementation can alter itself, and why collectives are unknown."""
        state = self.instance.placed(self.parameters)
        watched = self.platform.watch(self.warm, state, self.batches[0], self.case)[1]
        return watched.sites, self.implementation.alterations(), watched.unwatched

    def values(self) -> Intermediates | None:
        """What every operation of the first step makes; None where the program does not show it."""
        state = self.instance.placed(self.parameters)
        case = replace(self.case, mutation=None) if is_alteration(self.case.mutation) else self.case  # it is altered
        intermediates = self.platform.values(self.implementation.step, state, self.batches[0], case)
        if intermediates is None:
            return None
        return replace(intermediates, inputs=as_inputs(self.parameters | self.batches[0]))

    def measured(self) -> Measured:
        """The same batch again and again, each step from the state of the one before."""
        assert isinstance(self.job, MeasureJob)
        step, state, seconds = self.implementation.step, self.instance.placed(self.parameters), []
        for _ in range(self.job.repeats + 1):
            started = time.perf_counter()
            state, seen = step(state, self.batches[0])
            self.platform.wait((state, dict(seen)))
            seconds.append(time.perf_counter() - started)
        peak = self.platform.peak_bytes(step, state, self.batches[0])
        return Measured(step_seconds=tuple(seconds[1:]), peak_bytes=peak)

    def step(self, state: Any) -> Step:
        if self.case.mutation is None or is_alteration(self.case.mutation):
            return self.implementation.step
        with self.clock("trace"):
            self.warm.ran = False  # the mutant is another program
            return self.platform.mutated(self.implementation.step, state, self.batches[0], self.case)

    def altered(self, mutation: Mutation) -> CachedProgram:
        """A new object of the implementation, which has made this change to itself."""
        altered = self.platform.built(self.job, self.warm.contract, self.case)
        altered.implementation.alter(mutation.operator, mutation.site)
        return altered

    def finished(self, initial: Observations, step: Step, state: Any) -> tuple[Observations, ...]:
        """The steps, each of which is kept until the case ends: a later one may end this process."""
        kept, steps = FinishedSteps.of_this_process(), tuple[Observations, ...]()
        for observed in self.trained(step, state):
            steps = (*steps, observed)
            kept.keep(
                Evidence(
                    initial=initial,
                    steps=steps,
                    declarations=self.implementation.declare(),
                    devices=self.devices(steps),
                    timeline=self.implementation.timeline(),
                    seconds=dict(self.clock.seconds),
                )
            )
        return steps

    def trained(self, step: Step, state: Any) -> Iterator[Observations]:
        """Every step of the recipe, or the first alone: what it observed, then the state after it."""
        alone = isinstance(self.job, CaseJob) and not self.job.later_steps
        self.memory = MemoryWatch(self.instance, state)
        for batch in self.batches[:1] if alone else self.batches:
            state, seen = self.instance.stepped(state, batch, step)
            self.memory.stepped(state, seen)
            yield self.instance.observed(seen) | self.instance.collected(state)

    def repeated(self, step: Step, job: CaseJob, first: Observations) -> tuple[Observations, TracedStep]:
        """The first step again from a second placement; watched unless it is a mutant.

        What is traced is a step from a third one, afterwards: a trainer has changed when it was traced.
        """
        asked, traces = job.trace and self.case.mutation is None, self.platform.traces
        (state, seen), watched = self.watched() if asked and not traces else (self.second(step), NOT_ASKED)
        repeated = shared(self.instance.observed(seen) | self.instance.collected(state), first)
        del state, seen  # room for the third
        return repeated, self.traced() if asked and traces else watched

    def second(self, step: Step) -> tuple[Any, Mapping[str, Any]]:
        """What the first step returns from a second placement."""
        state, batch = self.instance.placed(self.parameters), copied(self.batches[0])
        with self.clock("step"):
            return self.instance.settled(step(state, batch))

    def watched(self) -> tuple[tuple[Any, Mapping[str, Any]], TracedStep]:
        """The same, and what was seen of it while it ran."""
        state, batch = self.instance.placed(self.parameters), copied(self.batches[0])
        with self.clock("trace" if self.warm.watched is None else "step"):
            returned, watched = self.platform.watch(self.warm, state, batch, self.case)
            returned = self.instance.settled(returned)
        # A watched step is a step: only what watching adds to the shortest unwatched one is the cost of tracing.
        self.clock.move("trace", "step", self.clock.shortest.get("step", 0.0))
        return returned, watched

    def traced(self) -> TracedStep:
        """What is seen of a step without running it."""
        if self.warm.watched is None:
            state = self.instance.placed(self.parameters)
            with self.clock("trace"):
                self.platform.watch(self.warm, state, copied(self.batches[0]), self.case)
        return self.warm.watched or NOT_ASKED

    def input_sensitivity(self, step: Step, first: Observations) -> Iterator[tuple[str, bool]]:
        """For each key of the batch: does anything change when that key changes?"""
        for key in self.batches[0]:
            batch = copied(self.batches[0]) | {key: changed(self.batches[0][key])}
            state = self.instance.placed(self.parameters)
            with self.clock("step"):
                _, seen = self.instance.settled(step(state, batch))
            after = self.instance.observed(seen)
            lost = any(name.startswith("gradients/") and name not in after for name in first)
            yield key, lost or not all_same_bits(after, {name: first[name] for name in after if name in first})

    def devices(self, steps: tuple[Observations, ...]) -> tuple[int, ...]:
        """The devices that really store something."""
        stored = [observed.stored_bytes for step in steps for observed in step.values()]
        ranks = {rank for sizes in stored for rank, size in sizes.items() if size}
        return tuple(sorted(self.case.mesh.device_order[rank] for rank in ranks))


def is_alteration(mutation: Mutation | None) -> TypeGuard[Mutation]:
    """Whether the implementation makes this change itself; all others are made to a collective."""
    return mutation is not None and mutation.operator not in OPERATORS
