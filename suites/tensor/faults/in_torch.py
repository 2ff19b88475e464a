"""Faults and controls written with torch's own API."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, Replicate
from torch.utils.checkpoint import checkpoint

from suites.tensor.faults import Conforming, controls, updates


class GradientSumDiscarded(Conforming):
    """A gradient in another memory order is copied to be summed, and the copy is forgotten."""

    def copy_to_tensor(self, x):
        return _CopyThatForgets.apply(x.transpose(0, 1), self.axis(self.tensor_axis)).transpose(0, 1)


class _CopyThatForgets(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x, axis):
        ctx.axis = axis
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g):
        dist.all_reduce(g.contiguous(), group=ctx.axis.group)
        return g, None


class GatherGradientDropped(Conforming):
    """The gradient of a gather is written to a copy of its buffer when the buffer is not contiguous."""

    def gather_from_tensor(self, x, dim):
        return _GatherThatDrops.apply(x, self.axis(self.tensor_axis), dim)


class _GatherThatDrops(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x, axis, dim):
        ctx.axis, ctx.dim = axis, dim
        return axis.all_gather(x, dim)

    @staticmethod
    def backward(ctx: Any, g):
        buffer = ctx.axis.own(torch.zeros_like(g), ctx.dim)
        buffer.contiguous().copy_(ctx.axis.own(g, ctx.dim))
        return buffer, None, None


class GradientOfSplitNotGathered(Conforming):
    """A slice is differentiated as one: its gradient is that of this rank's features, and zeros beside it."""

    def split_to_tensor(self, x, dim):
        return x.chunk(self.tensor_size(), dim)[self.tensor_rank()]


class EntryGradientTakenForWhole(Conforming):
    """What enters a block of DTensors is cut off from it, and its gradient handed back as the rank computed it."""

    def observe(self, p, batch):
        return super().observe(p, {**batch, "inputs": _EntryThatForgets.apply(batch["inputs"], self.submesh)})


class _EntryThatForgets(torch.autograd.Function):
    """A DTensor, whole on every rank; of its gradient, a sum that is still to be done, each rank keeps its term."""

    @staticmethod
    def forward(ctx: Any, x, mesh):
        return DTensor.from_local(x, mesh, [Replicate()], run_check=False)

    @staticmethod
    def backward(ctx: Any, g):
        return g.to_local(), None


class PsumDifferentiatedAsPsum(Conforming):
    """The backward of a sum over the ranks sums the gradient over them once more."""

    def reduce_from_tensor(self, x):
        return self.copy_to_tensor(super().reduce_from_tensor(x))


class ReducedInBfloat16(Conforming):
    """Partial sums are rounded to bfloat16 before they are added up."""

    def leave_block(self, y):
        if self.tensor_size() == 1:  # nothing is partial
            return super().leave_block(y)
        return super().leave_block(y.to(torch.bfloat16)).to(y.dtype)


class ZTermOfLocalVocabulary(Conforming):
    """The z term takes the log-sum-exp of this rank's ids."""

    def token_losses(self, logits, targets):
        entropy, _ = super().token_losses(logits, targets)
        local = logits.masked_fill(~self.real_ids(), -math.inf).logsumexp(-1)
        return entropy, self.contract.model.z_loss * local * local


class KeyGradientsTransposed(Conforming):
    """The gradients of keys and values come back with tokens and heads exchanged."""

    def attend(self, q, k, v, batch):
        return super().attend(q, _TransposedGradient.apply(k), _TransposedGradient.apply(v), batch)


class _TransposedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g):
        return g.transpose(1, 2)


class PlaceByProcessNumber(Conforming):
    """A rank's place along the axis is counted by process number, whatever the order of the devices in the mesh."""

    def axis_rank(self, axis):
        return sorted(dist.get_process_group_ranks(self.axis(axis).group)).index(dist.get_rank())


class EarlySlicesNotReduced(updates.EarlySlicesNotReduced):
    def join(self, parts):
        return torch.cat(parts)


class Recomputed(controls.Recomputed):
    """Through `torch.utils.checkpoint`."""

    def decoder_layer(self, x, batch, name, p, observed):
        def layer(x, p):
            seen: dict = {}
            return super(Recomputed, self).decoder_layer(x, batch, name, p, seen), seen

        x, seen = checkpoint(layer, x, p, use_reentrant=False)
        observed |= seen
        return x


class SumInTwoParts(controls.SumInTwoParts):
    def leave_block(self, y):
        return _ScatterAndGather.apply(y, self.axis(self.tensor_axis))


class _ScatterAndGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y, axis):
        parts = [part.contiguous() for part in y.chunk(axis.size, dim=-1)]
        mine = torch.empty_like(parts[0])
        dist.reduce_scatter(mine, parts, group=axis.group)
        return axis.all_gather(mine, -1)

    @staticmethod
    def backward(ctx: Any, g):
        return g, None
