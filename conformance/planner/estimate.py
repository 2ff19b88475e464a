"""What a layout is expected to cost: memory from its footprint, time from operations and the budget of its program.

The budget is the one that the compiled program is held against, so the communication is what it may send at the most.
Nothing is assumed to overlap: the step takes as long as its matrix products and its transfers one after the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from conformance.cases.importing import module_named
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
    def step_seconds(self) -> float:
        return self.compute_seconds + sum(self.communication_seconds.values())

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
            temporary_bytes=self.footprint.temporary_bytes,
            needed_bytes=self.footprint.needed_bytes,
            compute_seconds=self.compute_seconds,
            communication_seconds=dict(self.communication_seconds),
            communication_bytes=dict(self.communication_bytes),
            largest_all_reduce=self.largest_all_reduce,
            step_seconds=self.step_seconds,
        )


def estimate(question: Question, layout: Layout, footprint: Footprint) -> Estimate:
    """Of one layout that the program takes."""
    budget, mesh = allowances(question, layout), layout.mesh
    sent = _wire_bytes(budget, mesh)
    chip = question.chip
    return Estimate(
        layout=layout,
        footprint=footprint,
        compute_seconds=sum(
            operations / chip.flops.get(dtype, chip.flops["float32"]) for dtype, operations in footprint.flops.items()
        ),
        communication_seconds={name: size / bandwidth(name.split("+"), mesh, chip) for name, size in sent.items()},
        communication_bytes=sent,
        largest_all_reduce=max(
            (_payload(each) for each in budget if each.kind == "all_reduce" and _axes(each, mesh)), default=0
        ),
    )


def allowances(question: Question, layout: Layout) -> Sequence[Allowance]:
    """The budget of the program that would be compiled."""
    plan = question.family.plan("candidate", question.training, layout)
    module, _, name = plan.budget.partition(":")
    budget: Sequence[Allowance] = getattr(module_named(module), name)(plan.contract, layout.mesh, plan.dtype)
    return budget


def _wire_bytes(budget: Sequence[Allowance], mesh: Mesh) -> dict[str, int]:
    """Axes -> bytes that one device sends in a step, by the ring algorithm, as they are counted in programs."""
    sent: Counter[str] = Counter()
    for each in budget:
        axes = _axes(each, mesh)
        if axes and each.elements:
            ranks = 1
            for axis in axes:
                ranks *= mesh.size(axis)
            sent["+".join(axes)] += wire_bytes(each.kind, _payload(each) * each.calls, ranks)
    return dict(sent)


def _payload(each: Allowance) -> int:
    """Bytes of one launch: of its operand or its result, whichever is larger."""
    return Buffer(dtype=each.dtype, elements=each.elements).bytes


def _axes(each: Allowance, mesh: Mesh) -> tuple[str, ...]:
    return tuple(axis for axis in mesh.axes if axis in each.axes and mesh.size(axis) > 1)
