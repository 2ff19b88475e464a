"""What a suite offers to a planner: models of any size, the layouts that its program takes, and what these cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.cases.plan import ScalePlan
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
    """

    mesh: Mesh
    microbatches: int = 1
    recompute: str = "none"

    def __str__(self) -> str:
        slices = f"{self.microbatches} microbatch{'es' if self.microbatches > 1 else ''}"
        return f"{self.mesh}, {slices}, recompute {self.recompute}"


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes and operations of one device in one step.

    parameter_bytes, gradient_bytes, optimizer_bytes   exact, from shapes and shardings, padding included
    batch_bytes      exact
    temporary_bytes  predicted: everything else that lives at the peak, gradients included
    flops            dtype -> floating-point operations of matrix products
    """

    parameter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    batch_bytes: int
    temporary_bytes: int
    flops: Mapping[str, int]

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
    """Models of one kind, of any size, and one program that trains them on any layout.

    axes          mesh axes that the program divides something over, in mesh order
    not_searched  mesh axis -> why no layout has it
    recomputes    the policies that the program knows
    sized         number of parameters -> the nearest model
    read          hyperparameters as a file holds them -> model
    fields        model -> hyperparameters as a file holds them
    parameters    model -> number of parameters
    refused       (training, layout) -> why the program does not take it; empty where it does
    footprint     (training, layout) -> what one device holds and computes
    plan          (name, training, layout) -> what is compiled
    """

    name: str
    summary: str
    axes: tuple[str, ...]
    recomputes: tuple[str, ...]
    sized: Callable[[int], Sized]
    read: Callable[[Mapping[str, Any]], Any]
    fields: Callable[[Any], dict[str, Any]]
    parameters: Callable[[Any], int]
    refused: Callable[[Training, Layout], str]
    footprint: Callable[[Training, Layout], Footprint]
    plan: Callable[[str, Training, Layout], ScalePlan]
    not_searched: Mapping[str, str] = field(default_factory=dict)
