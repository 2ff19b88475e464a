"""What a layout is expected to cost: memory from its footprint, time from operations and the budget of its program.

The budget is the one that the compiled program is held against, so the communication is what it may send at the most.
Nothing is assumed to overlap: the step takes as long as its matrix products and its transfers one after the other, and
as the stages of a pipeline wait for each other by their schedule.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conformance.cases.plan_file import Predicted
from conformance.cases.plannable import Footprint, Layout
from conformance.contract.budget import Allowance
from conformance.contract.mesh import Mesh
from conformance.planner.question import Objective, Question
from conformance.scale.roofline import bandwidth
from conformance.traffic.collective_op import Buffer
from conformance.traffic.wire import wire_bytes


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A layout with what one device needs and how long one step takes; bytes and seconds by axes, joined by `+`."""

    layout: Layout
    footprint: Footprint
    compute_seconds: float
    communication_seconds: Mapping[str, float]
    communication_bytes: Mapping[str, int]
    largest_all_reduce: int

    @property
    def busy_seconds(self) -> float:
        return self.compute_seconds + sum(self.communication_seconds.values())

    @property
    def bubble_seconds(self) -> float:
        """In which the stages of a pipeline wait for each other."""
        return self.step_seconds * self.footprint.bubble

    @property
    def step_seconds(self) -> float:
        return self.busy_seconds / (1 - self.footprint.bubble)

    @property
    def slice_seconds(self) -> float:
        """From the rows of one microbatch to their gradients."""
        return self.step_seconds / self.layout.microbatches

    def cost(self, objective: Objective) -> float:
        """What the objective makes small: seconds of a step, bytes of a device, or seconds of a microbatch."""
        if objective == "memory":
            return self.footprint.needed_bytes
        return self.step_seconds if objective == "throughput" else self.slice_seconds

    def predicted(self) -> Predicted:
        """As a plan file keeps it."""
        return Predicted(
            parameter_bytes=self.footprint.parameter_bytes,
            gradient_bytes=self.footprint.gradient_bytes,
            optimizer_bytes=self.footprint.optimizer_bytes,
            batch_bytes=self.footprint.batch_bytes,
            temporary_bytes=self.footprint.temporary_bytes,
            temporaries=dict(self.footprint.temporaries),
            needed_bytes=self.footprint.needed_bytes,
            compute_seconds=self.compute_seconds,
            communication_seconds=dict(self.communication_seconds),
            communication_bytes=dict(self.communication_bytes),
            largest_all_reduce=self.largest_all_reduce,
            bubble_seconds=self.bubble_seconds,
            step_seconds=self.step_seconds,
        )


def estimate(question: Question, layout: Layout, footprint: Footprint) -> Estimate:
    """Of one layout that the program takes."""
    budget, mesh = question.family.budget(question.training, layout), layout.mesh
    sent = _wire_bytes(budget, mesh)
    chip = question.chip
    return Estimate(
        layout=layout,
        footprint=footprint,
        compute_seconds=sum(operations / chip.peak(dtype) for dtype, operations in footprint.flops.items()),
        communication_seconds={name: size / bandwidth(name.split("+"), mesh, chip) for name, size in sent.items()},
        communication_bytes=sent,
        largest_all_reduce=max(
            (_payload(each) for each in budget if each.kind == "all_reduce" and _axes(each.axes, mesh)), default=0
        ),
    )


def _wire_bytes(budget: Sequence[Allowance], mesh: Mesh) -> dict[str, int]:
    """Axes -> bytes that one device sends in a step, by the ring algorithm, as they are counted in programs."""
    payload: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for each in budget:
        if each.elements:
            payload[each.kind, each.axes] += _payload(each) * each.calls
    sent: Counter[str] = Counter()
    for (kind, named), size in payload.items():
        if axes := _axes(named, mesh):
            sent["+".join(axes)] += wire_bytes(kind, size, math.prod(mesh.size(axis) for axis in axes))
    return dict(sent)


def _payload(each: Allowance) -> int:
    """Bytes of one launch: of its operand or its result, whichever is larger."""
    return Buffer(dtype=each.dtype, elements=each.elements).bytes


def _axes(named: Sequence[str], mesh: Mesh) -> tuple[str, ...]:
    return tuple(axis for axis, size in mesh.sizes if size > 1 and axis in named)
