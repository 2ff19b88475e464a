"""The operators of sequence parallelism: what each does to activations, and to their gradients.

Law of a pair: the gradient of a gather is a reduce-scatter, that of a reduce-scatter is a gather. Gathered tokens meet
different weights on every rank, so their gradient is a sum over them, not the mere split that would undo the gather.
Source: Korthikanti et al., Reducing Activation Recomputation in Large Transformer Models, section 4.2.2 (g and g-bar).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from suites.training.torch.collectives import MeshAxis


class GatherAlong(torch.autograd.Function):
    """Blocks of all ranks side by side along dim; the gradients of all ranks are summed, each keeps its block."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: MeshAxis, dim: int) -> Tensor:
        ctx.axis, ctx.dim = axis, dim
        return axis.all_gather(x, dim)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return ctx.axis.reduce_scatter(g, ctx.dim), None, None


class ScatterAlong(torch.autograd.Function):
    """Sum over the ranks, of which each keeps its block along dim; the blocks of the gradient are gathered."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: MeshAxis, dim: int) -> Tensor:
        ctx.axis, ctx.dim = axis, dim
        return axis.reduce_scatter(x, dim)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return ctx.axis.all_gather(g, ctx.dim), None, None


class Exchange(torch.autograd.Function):
    """All-to-all: cut along one dim, one piece for each rank, joined along another; its gradient goes back alike."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: MeshAxis, split: int, join: int) -> Tensor:
        ctx.axis, ctx.split, ctx.join = axis, split, join
        return axis.all_to_all(x, split, join)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return ctx.axis.all_to_all(g, ctx.join, ctx.split), None, None, None
