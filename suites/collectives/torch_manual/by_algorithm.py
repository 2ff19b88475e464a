"""Sums and gathers by algorithms made of messages, in the place of those of `torch.distributed`."""

from __future__ import annotations

from functools import cached_property, partial

import torch
from torch import Tensor

from suites.collectives.by_algorithm import ByAlgorithm, PickedByModel
from suites.collectives.schedule import ALL_GATHER, ALL_REDUCE, REDUCE_SCATTER, Cost
from suites.collectives.torch_manual.executor import carried_out
from suites.collectives.torch_manual.joint_axis import JointAxis
from suites.collectives.torch_manual.linear import linear
from suites.collectives.torch_manual.native import Native


class Algorithmic(ByAlgorithm, Native):
    """The transpose of a collective goes by the same algorithm."""

    @staticmethod
    def messages_of(cost: Cost) -> tuple[int, int]:
        """Of the busiest rank."""
        return cost.messages, cost.blocks

    @cached_property
    def lines(self) -> dict[str, JointAxis]:
        """Each axis of the collective by itself."""
        return {name: JointAxis.over(self.device_mesh, (name,)) for name in self.axes_used}

    def all_reduce(self, x: Tensor) -> Tensor:
        summed = partial(self.summed, axes=self.axes_used)
        return linear(x, summed, summed)

    def all_gather(self, x: Tensor, dim: int) -> Tensor:
        return linear(x, partial(self.gathered, dim=dim), partial(self.scattered, dim=dim))

    def reduce_scatter(self, x: Tensor, dim: int) -> Tensor:
        return linear(x, partial(self.scattered, dim=dim), partial(self.gathered, dim=dim))

    # The three collectives on whole tensors, over one axis after the other.

    def summed(self, x: Tensor, axes: tuple[str, ...]) -> Tensor:
        """The sum over some axes, whatever the shape of x; padded with zeros until it makes equal blocks."""
        if not axes:
            return x.clone()
        *outer, inner = axes
        if not outer:
            return _restored(self.run(ALL_REDUCE, _cut(x, self.schedule(ALL_REDUCE, inner).blocks), inner), x)
        own = self.run(REDUCE_SCATTER, _cut(x, self.mesh.size(inner)), inner)[self.lines[inner].rank]
        own = self.summed(own, tuple(outer))
        return _restored(self.run(ALL_GATHER, self.alone(own, inner), inner), x)

    def gathered(self, x: Tensor, dim: int) -> Tensor:
        """Side by side along a dim, the first axis outermost; the last axis carries most and comes last."""
        parts = x.unsqueeze(0)
        for axis in self.axes_used:
            all_parts = self.run(ALL_GATHER, self.alone(parts, axis), axis)
            parts = all_parts.reshape(-1, *parts.shape).transpose(0, 1).reshape(-1, *x.shape)
        return torch.cat(parts.unbind(), dim)

    def scattered(self, x: Tensor, dim: int) -> Tensor:
        """The part along a dim that has this rank's number; the last axis comes first."""
        parts = torch.stack(x.chunk(self.devices, dim))
        shape = parts.shape[1:]
        for axis in reversed(self.axes_used):
            k = self.mesh.size(axis)
            blocks = parts.reshape(-1, k, *shape).transpose(0, 1).reshape(k, -1)
            parts = self.run(REDUCE_SCATTER, blocks, axis)[self.lines[axis].rank].reshape(-1, *shape)
        return parts[0].clone()

    def alone(self, own: Tensor, axis: str) -> Tensor:
        """[blocks, elements] with this rank's block in its place."""
        blocks = own.new_zeros((self.mesh.size(axis), own.numel()))
        blocks[self.lines[axis].rank] = own.reshape(-1)
        return blocks

    def run(self, collective: str, blocks: Tensor, axis: str) -> Tensor:
        """[blocks, elements] -> the same after the schedule of this axis."""
        return carried_out(self.schedule(collective, axis), blocks.contiguous(), self.lines[axis])


def _cut(x: Tensor, blocks: int) -> Tensor:
    return torch.nn.functional.pad(x.reshape(-1), (0, -x.numel() % blocks)).reshape(blocks, -1)


def _restored(blocks: Tensor, like: Tensor) -> Tensor:
    return blocks.reshape(-1)[: like.numel()].reshape(like.shape)


class Ring(Algorithmic):
    algorithm = "ring"


class Tree(Algorithmic):
    algorithm = "tree"


class Halving(Algorithmic):
    algorithm = "halving"


class Hierarchical(Algorithmic):
    algorithm = "hierarchical"


class Direct(Algorithmic):
    algorithm = "direct"


class PerAxis(Algorithmic):
    """Another algorithm on each axis, as its network may want it."""

    algorithm = "ring"
    algorithms = {"data": "tree", "pipeline": "halving"}  # noqa: RUF012


class Picked(PickedByModel, Algorithmic):
    """The one that is predicted to be quickest on the network of each axis."""
