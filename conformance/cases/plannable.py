"""What a suite offers to a planner: models of any size, the layouts that its program takes, and what these cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

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


class ModelFamily(ABC):
    """Models of one kind, of any size, the layouts that are known of them, and one program that trains them.

    axes          mesh axes that divide something, in mesh order
    recomputes    the policies that are known
    schedules     of stages, where there is a pipeline axis
    named         models that are asked for by name
    not_searched  mesh axis -> why no layout has it
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    axes: ClassVar[tuple[str, ...]]
    recomputes: ClassVar[tuple[str, ...]]
    schedules: ClassVar[tuple[str, ...]] = ()
    named: ClassVar[Mapping[str, Sized]] = {}
    not_searched: ClassVar[Mapping[str, str]] = {}

    # Models.

    @abstractmethod
    def sized(self, number: int) -> Sized:
        """The model of about so many parameters. Raises UsageError where no model is of any size."""

    @abstractmethod
    def has(self, model: Any) -> bool:
        """Whether a model is of this family."""

    @abstractmethod
    def parameters(self, model: Any) -> int:
        """How many a model has."""

    @abstractmethod
    def read(self, written: Mapping[str, Any]) -> Any:
        """A model from its hyperparameters as a file holds them. Raises TypeError for one that there is not."""

    @abstractmethod
    def fields(self, model: Any) -> dict[str, Any]:
        """The hyperparameters of a model as a file holds them."""

    # Layouts.

    @abstractmethod
    def refused(self, training: Training, layout: Layout) -> str:
        """Why a layout cannot be, the same sentence for all with the same trouble; empty where it can."""

    @abstractmethod
    def uncompiled(self, training: Training, layout: Layout) -> str:
        """Why no program of a layout is compiled, so that no plan has it; empty where one is."""

    # What a layout costs, and what is compiled.

    @abstractmethod
    def footprint(self, training: Training, layout: Layout) -> Footprint:
        """What one device holds and computes."""

    @abstractmethod
    def budget(self, training: Training, layout: Layout) -> Sequence[Allowance]:
        """What a device may send in a step."""

    @abstractmethod
    def plan(self, name: str, training: Training, layout: Layout) -> ScalePlan:
        """What is compiled."""
