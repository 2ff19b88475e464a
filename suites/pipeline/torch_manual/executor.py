"""The executor: every rank carries out its own lane of the schedule, one event after the other.

Messages block: a send until it is received, a receive until the message arrives. A forward pass keeps its autograd
graph until the backward pass of the same microbatch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from conformance.contract.alteration import Alteration
from suites.pipeline.laws import violations
from suites.pipeline.layout import PASSTHROUGH
from suites.pipeline.mutants import alterations, mutant
from suites.pipeline.schedule import (
    ACTIVATION,
    FORWARD,
    GRADIENT,
    INPUT_BACKWARD,
    SEND,
    WEIGHT_BACKWARD,
    WORK,
    Event,
    Product,
    ScheduleError,
    TimedSchedule,
    timed,
)
from suites.pipeline.stages import INPUT_GRADIENTS, Stages
from suites.training.torch.manual import CollectiveTraining
from suites.training.torch.state import Named

SUMS = ("loss", "weight", "metrics/cross_entropy", "metrics/z_loss")  # of the last stage


@dataclass(kw_only=True)
class Passed:
    """What a forward pass leaves for the backward pass of its microbatch."""

    inputs: Named
    outputs: Named
    loss: Tensor | None
    gradients: tuple[Tensor, ...] = ()  # of the outputs, once they have arrived


@dataclass(kw_only=True)
class Slice:
    """One slice of a batch under way on one rank.

    messages   what has arrived or was made here and has not been used yet: activations and whole numbers, or gradients
    passed     (stage, microbatch) -> its forward pass: their number is what a schedule costs in memory
    """

    leaves: Named
    microbatches: list[Named]
    messages: dict[Product, tuple[Named, Named]] = field(default_factory=dict)
    passed: dict[tuple[int, int], Passed] = field(default_factory=dict)
    gradients: Named = field(default_factory=dict)
    sums: Named = field(default_factory=dict)
    observed: dict[str, dict[int, Tensor]] = field(default_factory=dict)


class Executor(Stages, CollectiveTraining):
    """Runs the microbatches of one slice of a batch through the stages of this rank."""

    @cached_property
    def timed_schedule(self) -> TimedSchedule:
        """Raises ScheduleError for one that breaks a law: with blocking messages ranks would wait for ever."""
        table = timed(self.schedule)
        table = mutant(table, *self.altered) if self.altered else table
        for broken in violations(table):
            raise ScheduleError(broken)
        return table

    def alterations(self) -> tuple[Alteration, ...]:
        return tuple(alterations(self.timed_schedule, self.pipeline_axis, seen_by=("error",)))

    @property
    def sum_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of what stages add up: all ranks know the same names, in the same order."""
        return dict.fromkeys(SUMS, ())

    @property
    def pipeline_rank(self) -> int:
        return self.axis(self.pipeline_axis).rank

    def slice_gradients(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        leaves = {name: value.detach().to(self.master).requires_grad_() for name, value in parameters.items()}
        now = Slice(leaves=leaves, microbatches=self.microbatches(batch))
        now.sums = {name: torch.zeros(shape, dtype=self.master) for name, shape in self.sum_shapes.items()}
        now.gradients = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
        for event in self.timed_schedule.lanes[self.pipeline_rank]:
            self.carry_out(event, now)
        gradients = {name: self.round_gradient(g.detach()) for name, g in now.gradients.items()}
        rows = {name: torch.cat([parts[m] for m in sorted(parts)]) for name, parts in now.observed.items()}
        return gradients, now.sums, rows

    def carry_out(self, event: Event, now: Slice) -> None:
        if event.kind == FORWARD:
            self.forward_pass(event, now)
        elif event.kind in WORK:
            self.backward_pass(event, now)
        elif event.kind == SEND:
            self.send(event, now)
        else:
            self.receive(event, now)

    # Work.

    def forward_pass(self, event: Event, now: Slice) -> None:
        """One stage on one microbatch; its graph stays until the backward pass."""
        stage, m = event.stage, event.microbatch
        batch = now.microbatches[m]
        enters, passthrough = self.from_batch(batch) if stage == 0 else now.messages.pop((ACTIVATION, stage, m))
        enters = {name: x.detach().requires_grad_() for name, x in enters.items()}
        p = {name: now.leaves[name] for name in self.stage_parameters(stage)}
        out, seen, sums = self.stage(stage, self.to_compute(p), enters, passthrough | self.at_ends(stage, batch))
        now.passed[stage, m] = Passed(inputs=enters, outputs=out, loss=sums.get("loss"))
        now.messages[ACTIVATION, stage + 1, m] = out, passthrough
        now.sums |= {name: now.sums[name] + value.detach() for name, value in sums.items()}
        self.note(seen, m, now)

    def backward_pass(self, event: Event, now: Slice) -> None:
        """Gradients of what entered the stage, of its parameters, or of both."""
        stage, m, kind = event.stage, event.microbatch, event.kind
        passed = now.passed[stage, m]
        if kind != WEIGHT_BACKWARD:
            passed.gradients = self.output_gradients(passed, now.messages.pop((GRADIENT, stage, m), ({}, {}))[0])
        names = self.stage_parameters(stage) if kind != INPUT_BACKWARD else ()
        inputs = passed.inputs if kind != WEIGHT_BACKWARD else {}
        wanted = [*inputs.values(), *(now.leaves[name] for name in names)]
        gradients = self.differentiate(passed, wanted, keep=kind == INPUT_BACKWARD) if wanted else ()
        g_inputs = dict(zip(inputs, gradients, strict=False))
        self.accumulate_gradients(dict(zip(names, gradients[len(inputs) :], strict=True)), kind, now)
        if kind != WEIGHT_BACKWARD and stage > 0:
            now.messages[GRADIENT, stage - 1, m] = g_inputs, {}
        if stage == 0 and g_inputs:
            self.note({INPUT_GRADIENTS: g_inputs["x"].to(self.master)}, m, now)
        if kind != INPUT_BACKWARD:
            del now.passed[stage, m]

    def output_gradients(self, passed: Passed, arrived: Named) -> tuple[Tensor, ...]:
        """What the backward pass begins with: what has arrived for the outputs, and 1 for a loss."""
        of_loss = () if passed.loss is None else (torch.ones_like(passed.loss),)
        return (*(arrived[name] for name in passed.outputs), *of_loss)

    def differentiate(self, passed: Passed, wanted: list[Tensor], keep: bool) -> tuple[Tensor, ...]:
        outputs = (*passed.outputs.values(), *(() if passed.loss is None else (passed.loss,)))
        return torch.autograd.grad(outputs, wanted, passed.gradients, retain_graph=keep, materialize_grads=True)

    def accumulate_gradients(self, new: Named, kind: str, now: Slice) -> None:
        """Add the gradients of one microbatch to those of the others."""
        for name, g in new.items():
            now.gradients[name] = now.gradients[name] + g

    def note(self, seen: Named, microbatch: int, now: Slice) -> None:
        for name, value in seen.items():
            now.observed.setdefault(name, {})[microbatch] = value.detach()

    # What comes from the batch.

    def from_batch(self, batch: Named) -> tuple[Named, Named]:
        x = {"x": batch["inputs"]} if "inputs" in batch else {}
        return x, {key: batch[key].long() for key in PASSTHROUGH if key in batch}

    def microbatches(self, batch: Named) -> list[Named]:
        """The rows of a slice, cut into microbatches."""
        number = self.schedule.microbatches
        parts = zip(*(value.chunk(number) for value in batch.values()), strict=True)
        return [dict(zip(batch, values, strict=True)) for values in parts]

    # Messages.

    def send(self, event: Event, now: Slice) -> None:
        """The tensors of a message in the order of their names; one to this rank itself stays where it is."""
        product = (event.what, event.stage, event.microbatch)
        if event.peer == self.pipeline_rank:
            return
        activations, passthrough = now.messages.pop(product)
        for _, value in sorted(activations.items()) + sorted(passthrough.items()):
            self.axis(self.pipeline_axis).send(value, self.peer(event))

    def receive(self, event: Event, now: Slice) -> None:
        if event.peer == self.pipeline_rank:
            return
        axis, (activations, passthrough) = self.axis(self.pipeline_axis), self.expected(event, now)
        arrived = [
            {name: axis.receive(shape, dtype, self.peer(event)) for name, (shape, dtype) in sorted(group.items())}
            for group in (activations, passthrough)
        ]
        now.messages[event.what, event.stage, event.microbatch] = arrived[0], arrived[1]

    def peer(self, event: Event) -> int:
        """Whom this rank sends to, or receives from."""
        assert event.peer is not None
        return event.peer

    def expected(self, event: Event, now: Slice) -> tuple[dict, dict]:
        """Shapes and dtypes of a message: activations enter a stage, gradients are of what leaves it."""
        batch = now.microbatches[event.microbatch]
        rows = len(batch["mask"])
        floats = {name: ((rows, *shape), self.compute) for name, shape in self.crossing(event).items()}
        if event.what != ACTIVATION:
            return floats, {}
        _, passthrough = self.from_batch(batch)
        return floats, {name: (tuple(value.shape), value.dtype) for name, value in passthrough.items()}

    def crossing(self, event: Event) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape per row of the activations that cross the cut of a message: a gradient is of what left."""
        return self.units_of_stage(event.stage + (event.what != ACTIVATION))[0].enters
