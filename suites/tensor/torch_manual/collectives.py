"""The operators of tensor parallelism: what each does to activations, and to their gradients.

Law of a pair: the gradient of a copy is a sum, the gradient of a sum is a copy; likewise gather and split.
Autograd differentiates each rank's program by itself, so every operator states its gradient.
Source: Shoeybi et al., Megatron-LM, section 3 (operators f and g).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from suites.tensor.layout import TensorLayout
from suites.tensor.step_budget import BUDGETS
from suites.training.state_layout import Positions, first_copies
from suites.training.step_budget import Budgets
from suites.training.torch.collectives import MeshAxis
from suites.training.torch.manual import CollectiveTraining


class CopyTo(torch.autograd.Function):
    """Identity; the gradients of all ranks are summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: MeshAxis) -> Tensor:
        ctx.axis = axis
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.axis.all_reduce(g), None


class ReduceFrom(torch.autograd.Function):
    """Sum over the ranks; the gradient goes to each of them as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: MeshAxis) -> Tensor:
        return axis.all_reduce(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return g, None


class GatherFrom(torch.autograd.Function):
    """Blocks of all ranks side by side along dim; each takes its own block of the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: MeshAxis, dim: int) -> Tensor:
        ctx.axis, ctx.dim = axis, dim
        return axis.all_gather(x, dim)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return ctx.axis.own(g, ctx.dim), None, None


class SplitTo(torch.autograd.Function):
    """This rank's block along dim; the blocks of the gradient are gathered."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: MeshAxis, dim: int) -> Tensor:
        ctx.axis, ctx.dim = axis, dim
        return axis.own(x, dim).clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return ctx.axis.all_gather(g, ctx.dim), None, None


class TensorParallel(TensorLayout, CollectiveTraining):
    """A training step whose parameters are sharded over the tensor axis; of size 1, it communicates nothing."""

    sends: ClassVar[Budgets] = BUDGETS
    model_axes: ClassVar[tuple[str, ...]] = ("tensor",)

    def axis_rank(self, axis: str) -> int:
        """This rank's place along a mesh axis."""
        return self.axis(axis).rank

    def tensor_rank(self) -> int:
        return self.axis_rank(self.tensor_axis)

    def copy_to_tensor(self, x: Tensor) -> Tensor:
        return CopyTo.apply(x, self.axis(self.tensor_axis)) if self.tensor_size() > 1 else x

    def reduce_from(self, x: Tensor, axis: str) -> Tensor:
        return ReduceFrom.apply(x, self.axis(axis)) if self.mesh.size(axis) > 1 else x

    def reduce_from_tensor(self, x: Tensor) -> Tensor:
        return self.reduce_from(x, self.tensor_axis)

    def gather_from_tensor(self, x: Tensor, dim: int) -> Tensor:
        return GatherFrom.apply(x, self.axis(self.tensor_axis), dim) if self.tensor_size() > 1 else x

    def split_to_tensor(self, x: Tensor, dim: int) -> Tensor:
        """Where dim does not divide, the last blocks end in zeros."""
        if self.tensor_size() == 1:
            return x
        missing = -x.shape[dim] % self.tensor_size()
        x = torch.nn.functional.pad(x.movedim(dim, -1), (0, missing)).movedim(-1, dim) if missing else x
        return SplitTo.apply(x, self.axis(self.tensor_axis), dim)

    def sum_over_tensor(self, x: Tensor) -> Tensor:
        """Sum without a gradient."""
        return self.sum_over((self.tensor_axis,), x)

    def max_over_tensor(self, x: Tensor) -> Tensor:
        """Maximum, a constant to differentiation."""
        return self.axis(self.tensor_axis).all_reduce(x.detach(), dist.ReduceOp.MAX)

    # Overrides of the training step for the axis.

    def positions(self, name: str) -> Positions:
        """Cached, since every step asks for it."""
        if name not in self.known_positions:
            self.known_positions[name] = super().positions(name)
        return self.known_positions[name]

    @cached_property
    def known_positions(self) -> dict[str, Positions]:
        return {}

    @cached_property
    def repeated(self) -> frozenset[str]:
        """The parameters of which several ranks store the same elements."""
        return frozenset(name for name in self.contract.shapes if self.is_repeated(name))

    def squared_norm(self, name: str, g: Tensor) -> Tensor:
        """A repeated element counts where it is stored first."""
        return super().squared_norm(name, self.without_repeats(name, g) if name in self.repeated else g)

    def without_repeats(self, name: str, g: Tensor) -> Tensor:
        """Zero where a lower rank stores the same element."""
        [(dim, stored)] = self.computed_positions(name).items()
        first = self.own_part(dim, first_copies(stored), padding=0)
        return g * along(dim, first, g)

    def sum_repeats(self, name: str, g: Tensor) -> Tensor:
        """Sum the gradients of the copies of an element: in canonical order, sum over ranks, take one's own again."""
        [(dim, stored)] = self.computed_positions(name).items()
        own = self.own_part(dim, stored, padding=-1)
        real, place = along(dim, own >= 0, g), torch.tensor(own).clamp(min=0)
        whole = g.new_zeros([int(stored.max()) + 1 if d == dim else n for d, n in enumerate(g.shape)])
        return self.sum_over_tensor(whole.index_add(dim, place, g * real)).index_select(dim, place) * real

    def own_part(self, dim: int, elements: np.ndarray, padding: int) -> np.ndarray:
        """What is known of every element along a dim -> of those that this rank has the gradient of."""
        return elements.reshape(self.tensor_size(), -1)[self.tensor_rank()]

    def sum_gradient(self, name: str, g: Tensor) -> Tensor:
        g = self.reduced(g, self.sum_over_tensor) if self.is_partial(name) else g
        return super().sum_gradient(name, g)

    def compute_axes(self) -> tuple[str, ...]:
        sharded = self.divides_evenly() and not self.repeats_products
        return tuple(dict.fromkeys((*self.data_axes, *self.model_axes))) if sharded else super().compute_axes()


def along(dim: int, elements: np.ndarray, like: Tensor) -> Tensor:
    """Reshapes one number per element of a dim so that it broadcasts against a tensor."""
    return torch.tensor(elements).reshape([-1 if d == dim else 1 for d in range(like.dim())])
