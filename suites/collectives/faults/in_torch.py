"""Faults written with torch's own API."""

from __future__ import annotations

import torch
import torch.distributed as dist

from suites.collectives.faults import Conforming, native
from suites.collectives.torch_manual.linear import linear


class MaximumInsteadOfSum(Conforming):
    """The reduction is the wrong one."""

    def all_reduce(self, x):
        return linear(x, lambda z: self.joint.all_reduce(z, dist.ReduceOp.MAX), self.reduced_gradient)


class GradientOfSumNotSummed(Conforming):
    """A sum that all ranks read is differentiated as if one of them did."""

    def reduced_gradient(self, g):
        return g


class GradientOfGatherNotReduced(Conforming):
    """Every rank keeps the gradient of its own reading of its own part."""

    def scattered_gradient(self, g, dim):
        return self.joint.own(g, dim).clone()


class GradientOfScatterNotGathered(Conforming):
    """The gradient of a rank's part comes back to that part of its own operand alone."""

    def gathered_gradient(self, g, dim):
        blocks = [g if rank == self.joint.rank else torch.zeros_like(g) for rank in range(self.devices)]
        return torch.cat(blocks, dim)


class GradientOfExchangeNotTransposed(Conforming):
    """The gradient of an all-to-all is another one with the same dims, whose blocks arrive in the wrong places."""

    def all_to_all(self, x, split, concat):
        width = x.shape[split] // self.devices
        return linear(
            x,
            lambda z: self.joint.all_to_all(z, split, concat),
            lambda g: self.joint.all_to_all(g, concat, split).roll(width, split),
        )


class GradientMovesOn(Conforming):
    """The gradient of a permute travels the same way as the rows."""

    def permute(self, x, pairs):
        return linear(x, lambda z: self.joint.exchange_pairs(z, pairs), lambda g: self.joint.exchange_pairs(g, pairs))


class GradientOfBroadcastNotSummed(Conforming):
    """The rank that broadcasts keeps the gradient of its own reading."""

    def broadcast(self, x, source):
        def own(g):
            return g.clone() if self.joint.rank == source else torch.zeros_like(g)

        return linear(x, lambda z: self.joint.broadcast(z, source), own)


class GradientOfMaximumNotSummed(Conforming):
    """The row that has the maximum is given the gradient of its own rank alone."""

    def reduced_gradient(self, g):
        return g


class PartsRolled(Conforming):
    """Parts are gathered one rank further round."""

    def all_gather(self, x, dim):
        return super().all_gather(x, dim).roll(x.shape[dim], dim)


class ScatteredToNext(Conforming):
    """Every rank is given the part of the next one."""

    def reduce_scatter(self, x, dim):
        return super().reduce_scatter(x.roll(-(x.shape[dim] // self.devices), dim), dim)


class BlocksRolled(Conforming):
    """Blocks of an all-to-all are taken one rank further round."""

    def all_to_all(self, x, split, concat):
        return super().all_to_all(x.roll(x.shape[split] // self.devices, split), split, concat)


class LastFeatureDropped(Conforming):
    """Features that do not divide are cut off, and zeros stand in their place."""

    def fill_features(self, x, dim):
        whole = self.model.features // self.devices * self.devices
        cut = x.narrow(dim, 0, whole)
        zeros = torch.zeros_like(x.narrow(dim, whole, x.shape[dim] - whole))
        return super().fill_features(torch.cat([cut, zeros], dim), dim)


class StridedResultDiscarded(Conforming):
    """A strided gradient is summed in a contiguous copy, which is forgotten."""

    def reduced_gradient(self, g):
        if g.is_contiguous():
            return super().reduced_gradient(g)
        super().reduced_gradient(g)
        return g


class ThroughFloat32(native.ThroughFloat32):
    def is_whole(self, x):
        return not x.is_floating_point()

    def cast(self, x, dtype="float32"):
        return x.to(getattr(torch, dtype))


class SentByGlobalRank(Conforming):
    """The source of a broadcast is meant as a rank of the group, and taken as a process of the world."""

    def broadcast(self, x, source):
        world = dist.get_process_group_ranks(self.joint.group)
        return super().broadcast(x, world.index(source) if source in world else 0)
