"""The budget of a step with explicit collectives: operation by operation, from contract, mesh and dtype alone.

A budget is a layout and a row of parts; each part is one formula, and that of a hybrid is the sum of its parts'. Both
frameworks are held to the same one. No program is asked what it does.

Names of sizes: S slices of the batch, W elements of a parameter that a device keeps, D hidden features, n tokens of a
device in one slice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from conformance.contract.contract import Contract
from conformance.contract.implementation import CollectiveKind, Phase
from conformance.contract.mesh import Mesh
from reference.architecture import mixtures
from suites.training.state_layout import StateLayout
from suites.training.traffic import Transfer

STREAM = "activations/residual stream"  # what a transfer carries, where it is no parameter's
MEGATRON = "Shoeybi et al., Megatron-LM, section 3"
MEANS = "means over the batch: sums of losses and of valid elements, once for all slices"
SUMS_OF_GRADIENTS = "Li et al., PyTorch Distributed, section 3: gradients summed over the axes that divide the data"


@dataclass(frozen=True, kw_only=True)
class Habits:
    """What a framework does in its own way, in every program.

    axis_by_axis  a sum over several axes is one after the other, not one over all at once
    whole         dtype of whole numbers
    to_its_end    a layer that is computed again is computed to its last sum, which nothing reads
    keeps_wide    what was widened in a forward pass is kept wide for the backward pass
    by_autograd   phases are told by what autograd does: all that follows its last work in a step is update
    """

    axis_by_axis: bool
    whole: str
    to_its_end: bool
    keeps_wide: bool
    by_autograd: bool


JAX = Habits(axis_by_axis=False, whole="int32", to_its_end=False, keeps_wide=False, by_autograd=False)
TORCH = Habits(axis_by_axis=True, whole="int64", to_its_end=True, keeps_wide=True, by_autograd=True)


class Step:
    """The numbers that the formulas are made of."""

    def __init__(self, layout: Any, habits: Habits) -> None:
        self.layout, self.habits = layout, habits
        self.contract, self.mesh, self.model = layout.contract, layout.mesh, layout.contract.model
        self.recipe = layout.contract.recipe
        self.compute, self.reduction = layout.compute_dtype, layout.reduction_dtype
        self.wide = "float64" if layout.dtype == "float64" else "float32"
        self.slices = self.recipe.accumulation
        self.tokens, self.rows = layout.slice_tokens, layout.slice_rows
        self.names: tuple[str, ...] = tuple(self.contract.shapes)  # of the parameters that a device holds

    @property
    def hidden(self) -> int:
        return self.tokens * self.model.hidden

    @property
    def mask_dtype(self) -> str:
        """Dtype in which the attention mask of the batch arrives at a layer."""
        return self.wide

    @property
    def rows_of_slices(self) -> list[int]:
        """Rows of a device in each slice, which may be of several sizes."""
        rows: list[int] = self.layout.device_slices
        return rows

    @property
    def recomputes(self) -> bool:
        """Whether every layer is computed again in the backward pass."""
        return self.recipe.recompute == "layer"

    @property
    def forward_phases(self) -> tuple[Phase, ...]:
        """The phases in which the forward pass of a layer runs."""
        return ("forward", "backward") if self.recomputes else ("forward",)

    # Sizes of the model.

    @property
    def depth(self) -> int:
        """Decoder layers."""
        return {"layer": 1, "language_model": self.model.layers}.get(self.model.kind, 0)

    @property
    def mixtures(self) -> int:
        return len(mixtures(self.model)) if self.model.experts else 0

    @property
    def dense_blocks(self) -> int:
        """Feed-forward blocks behind attention; a shared expert is one."""
        return self.depth - (0 if self.model.shared_ffn else self.mixtures)

    @property
    def embeddings(self) -> int:
        """How often token ids are looked up."""
        return int(self.model.kind == "language_model")

    @property
    def heads(self) -> int:
        """How often logits are made and judged."""
        return int(self.model.kind == "language_model")

    @property
    def attentions(self) -> int:
        return self.depth or int(self.model.kind == "attention")

    @property
    def adapters(self) -> int:
        """Blocks with an adapter of low rank."""
        return (self.depth or int(self.model.kind == "feedforward")) if self.model.adapter else 0

    # Entries.

    def sums(
        self, axes: tuple[str, ...], elements: int, tensor: str, formula: str, source: str, *, calls: int = 1,
        dtype: str = "", phase: Phase = "update",
    ) -> Iterator[Transfer]:  # fmt: skip
        """All-reduces over axes, in the wide dtype unless another is named."""
        for group in [(axis,) for axis in axes] if self.habits.axis_by_axis else [axes]:
            yield Transfer(
                kind="all_reduce", axes=group, phase=phase, elements=elements, dtype=dtype or self.wide, calls=calls,
                tensor=tensor, formula=formula, source=source,
            )  # fmt: skip

    def gradient(self, name: str, axes: tuple[str, ...], elements: int, formula: str, source: str) -> Iterator:
        """A gradient summed when all slices are done, in the dtype that the recipe declares for that."""
        return self.sums(axes, elements, f"gradients/{name}", formula, source, dtype=self.reduction)

    def each_slice(
        self, kind: CollectiveKind, axis: str, phase: Phase, elements: int, tensor: str, formula: str, source: str, *,
        calls: int = 1, dtype: str = "", at_most: bool = False,
    ) -> Transfer:  # fmt: skip
        """Collectives over one axis in every slice, in the dtype of computation unless another is named."""
        return Transfer(
            kind=kind, axes=(axis,), phase=phase, elements=elements, dtype=dtype or self.compute,
            calls=calls * self.slices, tensor=tensor, at_most=at_most, formula=formula, source=source,
        )  # fmt: skip


Part = Callable[[Step], Iterator[Transfer]]


@dataclass(frozen=True, kw_only=True)
class StepBudget:
    """`layout` is made of these classes, in the order of their precedence; what is sent is the sum of the parts."""

    layout: tuple[type, ...]
    parts: tuple[Part, ...]

    def plus(self, *parts: Part, layout: tuple[type, ...] = ()) -> StepBudget:
        return StepBudget(layout=(*layout, *self.layout), parts=(*self.parts, *parts))

    def laid_out(self, contract: Contract, mesh: Mesh, dtype: str) -> StateLayout:
        return _joined(self.layout)(contract, mesh, dtype)

    def transfers(self, contract: Contract, mesh: Mesh, dtype: str, habits: Habits) -> Iterator[Transfer]:
        """What one device sends in one step."""
        return self.of(self.laid_out(contract, mesh, dtype), habits)

    def of(self, layout: StateLayout, habits: Habits) -> Iterator[Transfer]:
        step = Step(layout, habits)
        for part in self.parts:
            yield from part(step)


Budgets = Mapping[str, StepBudget]  # by the kind of a contract's model


@cache
def _joined(bases: tuple[type, ...]) -> Any:
    return bases[0] if len(bases) == 1 else type("Layout", bases, {})


# Parts of every training step.


def of_gradients(step: Step) -> Iterator[Transfer]:
    """Every gradient over the axes that divide the data, as it is kept."""
    for name in step.names:
        axes = step.layout.axes_of_gradient(name)
        yield from step.gradient(name, axes, step.layout.local_elements(name), "W", SUMS_OF_GRADIENTS)


def of_losses(step: Step) -> Iterator[Transfer]:
    """Loss and valid elements; of a model of tokens both terms of the loss; of mixtures their terms."""
    number = 2 + 2 * (step.model.kind == "language_model") + 2 * bool(step.mixtures)
    yield from step.sums(step.layout.data_axes, 1, "sums of losses", "1 for each sum", MEANS, calls=number)


def of_norm(step: Step) -> Iterator[Transfer]:
    """The squares of all gradients, over the axes that divide parameters."""
    source = "Pascanu et al., On the difficulty of training recurrent neural networks, section 3.2: the global norm"
    yield from step.sums(step.layout.model_axes, 1, "squares of gradients", "1", source)


def of_matrices(step: Step) -> Iterator[Transfer]:
    """Matrices that an optimizer needs whole, axis by axis, the one that cuts finest first."""
    layout, mesh = step.layout, step.mesh
    for name, shape in step.contract.shapes.items():
        if step.recipe.optimizer != "muon" or not is_hidden(name, shape):
            continue
        elements = math.prod(layout.arranged_shape(name, layout.slot_positions(name)))
        for axis in layout.slot_axes(name):
            yield Transfer(
                kind="all_gather", axes=(axis,), phase="update", elements=elements, dtype=step.wide,
                tensor=f"optimizer/momentum/{name}", formula="W of all over the outermost axis, its part next",
                source="Jordan et al., Muon: the product of a matrix with itself needs it whole",
            )  # fmt: skip
            elements //= mesh.size(axis)


def is_hidden(name: str, shape: tuple[int, ...]) -> bool:
    """Whether Muon makes a parameter orthogonal: the matrices of hidden layers."""
    return len(shape) == 2 and name not in ("embedding.weight", "head.weight")


def of_layer_norms(step: Step) -> Iterator[Transfer]:
    """Norms of parameters and of their steps, those sharded over the same axes together."""
    if step.recipe.optimizer != "lamb":
        return
    numbers: dict[tuple[str, ...], int] = {}
    for name in step.contract.shapes:
        axes = step.layout.slot_axes(name)
        numbers[axes] = numbers.get(axes, 0) + 1
    for axes, number in numbers.items():
        yield from step.sums(
            axes, number, "norms of parameters", "1 for each parameter, twice",
            "You et al., LAMB, section 3: norms of layers and of their steps", calls=2,
        )  # fmt: skip


TRAINING: tuple[Part, ...] = (of_gradients, of_losses, of_norm, of_matrices, of_layer_norms)
