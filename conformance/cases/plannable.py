"""What a suite offers to a planner: models of any size, the layouts that its program takes, and what these cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conformance.cases.plan import ScalePlan
from conformance.contract.budget import Allowance
from conformance.contract.mesh import Mesh


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained, on whatever devices.

    family      name of the model family
    model       hyperparameters, as the family has them
    rows        of the whole batch of a step; `length` tokens in each
    parameters  dtype in which parameters and gradients lie: float32, or bfloat16 without a second copy
    """

    family: str
    model: Any
    rows: int
    length: int
    parameters: str = "float32"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a step is divided.

    mesh          axes of size 1 are left out, except where one device is all there is
    microbatches  slices of a device's rows, one after the other
    recompute     what the backward pass computes again: none, attention (its core), layer
    schedule      of the stages, where the mesh has a pipeline axis; empty where it has none
    """

    mesh: Mesh
    microbatches: int = 1
    recompute: str = "none"
    schedule: str = ""

    def __str__(self) -> str:
        slices = f"{self.microbatches} microbatch{'es' if self.microbatches > 1 else ''}"
        staged = f", {self.schedule}" if self.schedule else ""
        return f"{self.mesh}, {slices}, recompute {self.recompute}{staged}"


SAVED, GRADIENTS, WORKING = "saved activations", "gradients and what they are made of", "working buffers"


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes and operations of one device in one step.

    parameter_bytes, gradient_bytes, optimizer_bytes   exact, from shapes and shardings, padding included
    batch_bytes      exact
    temporaries      predicted, by kind (`SAVED`, `GRADIENTS`, `WORKING`): everything else that lives at the peak,
                     gradients included
    flops            dtype -> floating-point operations of matrix products
    bubble           share of a step in which the stages of a pipeline wait for each other, by their schedule
    """

    parameter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    batch_bytes: int
    temporaries: Mapping[str, int]
    flops: Mapping[str, int]
    bubble: float = 0.0

    @property
    def temporary_bytes(self) -> int:
        return sum(self.temporaries.values())

    @property
    def held_bytes(self) -> int:
        """Of the arguments of the step."""
        return self.parameter_bytes + self.optimizer_bytes + self.batch_bytes

    @property
    def needed_bytes(self) -> int:
        return self.held_bytes + self.temporary_bytes


@dataclass(frozen=True, kw_only=True)
class Sized:
    """A model of about so many parameters, and where its shape comes from."""

    model: Any
    parameters: int
    rows: int
    length: int
    source: str


@dataclass(frozen=True, kw_only=True)
class ModelFamily:
    """Models of one kind, of any size, the layouts that are known of them, and one program that trains them.

    axes          mesh axes that divide something, in mesh order
    not_searched  mesh axis -> why no layout has it
    recomputes    the policies that are known
    schedules     of stages, where there is a pipeline axis
    sized         number of parameters -> the nearest model. Raises UsageError where no model is of any size
    named         models that are asked for by name
    has           whether a model is of this family
    read          hyperparameters as a file holds them -> model
    fields        model -> hyperparameters as a file holds them
    parameters    model -> number of parameters
    refused       (training, layout) -> why it cannot be; empty where it can
    uncompiled    (training, layout) -> why no program of it is compiled, so that no plan has it; empty where one is
    footprint     (training, layout) -> what one device holds and computes
    budget        (training, layout) -> what a device may send in a step
    plan          (name, training, layout) -> what is compiled
    """

    name: str
    summary: str
    axes: tuple[str, ...]
    recomputes: tuple[str, ...]
    sized: Callable[[int], Sized]
    has: Callable[[Any], bool]
    read: Callable[[Mapping[str, Any]], Any]
    fields: Callable[[Any], dict[str, Any]]
    parameters: Callable[[Any], int]
    refused: Callable[[Training, Layout], str]
    uncompiled: Callable[[Training, Layout], str]
    footprint: Callable[[Training, Layout], Footprint]
    budget: Callable[[Training, Layout], Sequence[Allowance]]
    plan: Callable[[str, Training, Layout], ScalePlan]
    schedules: tuple[str, ...] = ()
    named: Mapping[str, Sized] = field(default_factory=dict)
    not_searched: Mapping[str, str] = field(default_factory=dict)
