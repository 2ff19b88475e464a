"""The collectives of `torch.distributed`, each with its transpose stated beside it."""

from __future__ import annotations

from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from suites.collectives.torch_manual.joint_axis import Pairs
from suites.collectives.torch_manual.linear import linear
from suites.collectives.torch_manual.step import RowStep

_OPERATIONS = {"max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}


class Native(RowStep):
    """Every collective over all axes of the contract at once. A mean is a sum by the number of ranks: gloo has none."""

    def all_reduce(self, x: Tensor) -> Tensor:
        return linear(x, self.joint.all_reduce, self.reduced_gradient)

    def all_gather(self, x: Tensor, dim: int) -> Tensor:
        return linear(x, partial(self.joint.all_gather, dim=dim), partial(self.scattered_gradient, dim=dim))

    def reduce_scatter(self, x: Tensor, dim: int) -> Tensor:
        return linear(x, partial(self.joint.reduce_scatter, dim=dim), partial(self.gathered_gradient, dim=dim))

    def all_to_all(self, x: Tensor, split: int, concat: int) -> Tensor:
        return linear(
            x,
            partial(self.joint.all_to_all, split_dim=split, concat_dim=concat),
            partial(self.joint.all_to_all, split_dim=concat, concat_dim=split),
        )

    def permute(self, x: Tensor, pairs: Pairs) -> Tensor:
        back = [(destination, source) for source, destination in pairs]
        return linear(
            x, partial(self.joint.exchange_pairs, pairs=pairs), partial(self.joint.exchange_pairs, pairs=back)
        )

    def broadcast(self, x: Tensor, source: int) -> Tensor:
        return linear(x, partial(self.joint.broadcast, source=source), partial(self.joint.reduce, destination=source))

    # Gradients of the sums and gathers.

    def reduced_gradient(self, g: Tensor) -> Tensor:
        return self.joint.all_reduce(g)

    def scattered_gradient(self, g: Tensor, dim: int) -> Tensor:
        return self.joint.reduce_scatter(g, dim)

    def gathered_gradient(self, g: Tensor, dim: int) -> Tensor:
        return self.joint.all_gather(g, dim)

    # Maximum and minimum.

    def extreme(self, x: Tensor, reduction: str) -> Tensor:
        return _Extreme.apply(x, self, reduction)

    def extreme_of(self, x: Tensor, reduction: str) -> Tensor:
        """Over the rows that are there."""
        if self.model.rows % self.devices:
            lowest = torch.full_like(x, -torch.inf if reduction == "max" else torch.inf)
            x = torch.where(self.are_rows()[:, None, None], x, lowest)
        local = x.amax(0) if reduction == "max" else x.amin(0)
        return self.seen(partial(self.joint.all_reduce, op=_OPERATIONS[reduction]), local)


class _Extreme(torch.autograd.Function):
    """All ranks have read the result: what comes back to the row that has it is the sum of their gradients."""

    @staticmethod
    def forward(ctx, x: Tensor, step: Native, reduction: str) -> Tensor:
        y = step.extreme_of(x, reduction)
        ctx.step = step
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g: Tensor):  # type: ignore[override]
        x, y = ctx.saved_tensors
        summed = ctx.step.seen(ctx.step.reduced_gradient, g)
        return torch.where(x == y, summed, torch.zeros_like(summed)), None, None
